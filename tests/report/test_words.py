"""The sentences say what the numbers show, and no more."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_tailindex import functional
from lightning_tailindex.analysis.aggregation import aggregated_alphas, sizes
from lightning_tailindex.records import AggregatedTailIndex, Report
from lightning_tailindex.report.words import said
from tests.figures.reports import measurement
from tests.functional.samples import generator, noise

NEAR_2 = {"alpha": 1.92, "low": 1.774, "high": 1.9969}  # Student's t of 10 degrees of freedom, 128 draws
EXACT = {"alpha": 1.5, "low": 1.499, "high": 1.501}
NO_LAW = {
    "kolmogorov_distance": 0.09,
    "effective_coordinates": 40.0,
    "note": "2 of 9 series left out; no stable law fits",
}
SHARED = "draws may share data: their steps are of several epochs"


def sentences(of_report: str = "", /, **fields: Any) -> str:
    settings = {
        "alpha": 1.4,
        "low": 1.2,
        "high": 1.6,
        "gaussian_alpha": 1.98,
        "gaussian_p_value": 0.025,
        "num_draws": 48,
    }
    whole = replace(measurement("whole_model", 1.4), **{**settings, "kolmogorov_distance": 0.01, **fields})
    return " ".join(said([Report(7, (whole,), 90, 16, 0.1, note=of_report)])).replace("\N{NO-BREAK SPACE}", " ")


def average(alpha: float, size: int = 4, high: float = 1.95, of_two: float = 1.5) -> tuple[AggregatedTailIndex, ...]:
    return (
        AggregatedTailIndex(2, 32, of_two, of_two - 0.2, of_two + 0.2, 2.0),
        AggregatedTailIndex(size, 16, alpha, alpha - 0.4, high, 2.0),
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {},
            "α of the whole model is 1.40, 95 % interval 1.20 to 1.60, from 48 draws, each a minibatch of 16 samples.",
        ),
        ({"low": math.nan, "high": math.nan, "num_draws": 0}, "is 1.40. No interval was logged"),
        ({"high": math.nan}, "a Gaussian is neither excluded nor shown"),
        ({"gaussian_alpha": math.nan}, "a Gaussian is neither excluded nor shown"),
        ({"high": 2.0}, "α alone does not exclude Gaussian noise. That does not show that it is Gaussian"),
        ({}, "excludes 2, and its Gaussian surrogate, for which the truth is 2, reads 1.98, above the interval"),
        ({"gaussian_alpha": 1.5}, "reads 1.50, which is not above the interval: the estimate is off"),
        ({"gaussian_p_value": 0.025}, "covariance rejects it at 5 % (p = 0.025)"),
        ({"gaussian_p_value": 0.3}, "covariance does not reject it at 5 % (p = 0.300)"),
        ({"gaussian_p_value": 0.025}, ", the least that 39 surrogates can show."),
        (
            {"law": "gaussian", "gaussian_p_value": 0.025},
            "Of four laws a Gaussian fits best all the same: what the test",
        ),
        ({"law": "student_t"}, "Of four laws Student's t, which is no stable law, fits best."),
        (NO_LAW, "But no stable law fits: Kolmogorov distance 0.09, more"),
        (NO_LAW, "and than chance. α then says that tails are heavy, not by which law."),
        ({**NO_LAW, "alpha": 3.0, "high": 3.5}, "α then says that tails are heavy, not by which law."),  # by hill
        (
            {**NO_LAW, "alpha": 2.0, "high": 2.0},
            "Not even a Gaussian does: the noise is lighter-tailed than a Gaussian,",
        ),
        ({}, "Kolmogorov distance of 0.01, which does not speak against it; so few draws cannot show"),
        ({"aggregated": ()}, "a finite variance is neither shown nor excluded"),
        ({"aggregated": average(1.9, of_two=1.7)}, "Averages of 4 minibatches read 1.90: α climbs, as it does for"),
        ({"aggregated": average(1.9)}, "read 1.90: more than α, but by no more, or in no more sizes of averages, than"),
        ({"aggregated": average(1.6, of_two=1.7)}, "read 1.60: more than α, but by no more"),
        ({"aggregated": average(1.45)}, "read 1.45: α keeps its value, as under a stable law"),
        ({"aggregated": average(1.45, high=2.0)}, "read 1.45: within 0.1 of α, but they are too few"),
        ({"aggregated": average(1.45, high=math.nan)}, "read 1.45: within 0.1 of α, but they are too few"),
        ({**NEAR_2, "aggregated": average(2.0, 8, 2.0)}, "Averages of 8 minibatches read 2.00: within 0.1 of α, but"),
        (
            {**NEAR_2, "aggregated": average(1.9)},
            "or α is too near 2, to show whether it climbs, as for noise of finite",
        ),
        ({**NEAR_2, "high": 1.94, "aggregated": average(2.0, of_two=1.99)}, "read 2.00: α climbs"),
        ({"aggregated": average(1.7, of_two=1.7), "high": 2.0}, "read 1.70: more than α, but by no more"),
        ({"high": 1.999}, "The interval reaches 2, and its"),  # as it is printed
        ({"high": 1.985}, "reads 1.98: the tails are heavier than a Gaussian's"),  # one surrogate hardly below it
        ({"aggregated": average(1.9, of_two=1.9), "high": math.nan}, "read 1.90: more than α, but by how much chance"),
        ({"aggregated": average(1.9, of_two=1.9), "high": 1.4}, "read 1.90: more than α, but by how much chance"),
        (
            {"aggregated": average(1.9, of_two=1.9), "estimator": "hill"},
            "read 1.90: more than α, but by how much chance",
        ),
        (
            {"aggregated": average(1.8, of_two=1.8), "effective_coordinates": 1024},
            "read 1.80: more than α, but by no more",
        ),
        ({**EXACT, "aggregated": average(1.48, of_two=1.52)}, "read 1.48: α keeps its value"),
        ({**EXACT, "aggregated": average(1.52, of_two=1.52)}, "read 1.52: α keeps its value"),
        ({**EXACT, "aggregated": average(1.7, of_two=1.48)}, "read 1.70: more than α, but by no more"),
        ({"aggregated": average(1.0, of_two=1.1)}, "read 1.00: α falls, which"),
        ({"aggregated": average(1.0)}, "read 1.00: less than α, but by no more"),
        ({"aggregated": average(math.nan)}, "Averages of 2 minibatches read 1.50"),
        ({"noise_norm": 4.0}, "0.25 times as long as the noise: a step is mostly noise"),
        ({"noise_norm": 0.5}, "2 times as long as the noise: a step is more signal than noise"),
        ({}, "There is one report: how α moves in training, it does not tell."),
    ],
)
def test_each_case_has_its_sentence(fields: dict[str, Any], words: str) -> None:
    assert words in sentences(**fields)


def test_what_is_not_known_is_not_said() -> None:
    unknown = dict.fromkeys(("gaussian_p_value", "kolmogorov_distance", "noise_norm"), math.nan)
    text = sentences(**unknown, law="", aggregated=average(1.9), alpha=2.0, high=2.0)
    for word in ("test against", "laws", "Kolmogorov", "times as long", "Averages"):
        assert word not in text
        assert word in sentences(aggregated=average(1.9))


def test_tails_are_not_called_heavy_of_an_index_of_2() -> None:
    text = sentences(**{**NO_LAW, "alpha": 2.0, "high": 2.0})
    assert "heavy" not in text
    assert "α is 2 only because its range ends there" in text


def test_notes_are_said_before_what_they_qualify() -> None:
    text = sentences(SHARED, note="2 of 9 series left out: constant values")
    assert "16 samples. The full gradient" in sentences()
    for note in (
        "Draws may share data: their steps are of several epochs.",
        "2 of 9 series left out: constant values.",
    ):
        assert note in text
        assert text.index(note) < text.index("The interval excludes 2")
    assert sentences(**NO_LAW).count("o stable law fits") == 1


def averages_of(draws: Tensor) -> str:
    """What is said of draws and their averages."""
    found = functional.grouped_mle(draws, pooled=True)
    numbers = aggregated_alphas(functional.grouped_mle, [draws], [draws])[0].view(-1, 4).tolist()
    several = (AggregatedTailIndex(size, 256 // size, *row) for size, row in zip(sizes(256), numbers, strict=True))
    return sentences(alpha=float(found.alpha), low=float(found.low), high=float(found.high), aggregated=(*several,))


def test_of_dependent_draws_only_those_of_finite_variance_are_said_to_climb() -> None:
    stable = normal = 0
    for seed in range(16):
        rng = generator(seed)
        stable += "α climbs" in averages_of(noise(1.7, 256, 64, rng, rank=20))
        sizes_of_steps = torch.randn(256, 1, generator=rng, dtype=torch.float64).mul(0.7).exp()
        normal += "α climbs" in averages_of(noise(2.0, 256, 64, rng) * sizes_of_steps)
    assert stable <= 2  # averages of 16 read far more than α in every third
    assert normal >= 14


@pytest.mark.parametrize(
    ("note", "why"),
    [("the noise is no more than rounding", "the noise is no more than rounding"), ("", "no draw was usable")],
)
def test_without_a_tail_index_the_reason_is_quoted(note: str, why: str) -> None:
    text = sentences(SHARED, alpha=math.nan, note=note)
    assert text.endswith(
        f"the whole model has no tail index: {why}. Draws may share data: their steps are of several epochs."
    )


def test_the_course_of_several_reports() -> None:
    alphas = {0: 1.9, 100: math.nan, 200: 0.8, 300: 1.1}
    reports = [Report(step, (measurement("whole_model", alpha),), 90, 0, 0.1) for step, alpha in alphas.items()]
    text = " ".join(said(reports))
    assert "Over 3 reports α went from 1.90 at step 0 to 1.10; its lowest is 0.80 at step 200." in text
    assert "each a minibatch." in text  # of a size that nobody knows
