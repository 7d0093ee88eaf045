from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import StudentT

from lightning_tailindex import NamedEstimator, functional
from lightning_tailindex.analysis import Estimators, analyse, resolve_estimators
from lightning_tailindex.analysis.aggregation import aggregated
from lightning_tailindex.analysis.groups import Group, observed_groups
from lightning_tailindex.functional._search import Groups
from lightning_tailindex.noise.observation import GroupNoise, NoiseObservation
from lightning_tailindex.records import Measurement, TailIndexEstimate

from .functional.samples import generator, noise


def observe(**groups: Tensor) -> NoiseObservation:
    """An observation whose full gradient is 1 everywhere."""
    return NoiseObservation(
        tuple(
            GroupNoise(
                name,
                1 + x,
                torch.ones(x.shape[1], dtype=x.dtype),
                x.shape[1],
                torch.tensor(1.0),
                x.square().sum(1).mean().sqrt(),
            )
            for name, x in groups.items()
        ),
        num_draws=len(next(iter(groups.values()))),
        num_full_minibatches=256,
        minibatch_size=8,
        shares_data=False,
    )


def measure(estimators: Estimators = "grouped_mle", **groups: Tensor) -> dict[tuple[str, str], Measurement]:
    report = analyse(observe(**groups), resolve_estimators(estimators), step=0, seed=0)
    return {(m.group, m.estimator): m for m in report.measurements}


def test_many_groups_are_estimated_some_at_a_time_and_each_as_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    together: list[int] = []

    def counting(observed: Sequence[GroupNoise], seed: int, rng: torch.Generator) -> tuple[list[Group], Groups]:
        together.append(len(observed))
        return observed_groups(observed, seed, rng)

    monkeypatch.setattr("lightning_tailindex.analysis.report.observed_groups", counting)
    many = {f"group_{i}": noise(1.5, 16, 4, generator(i)) for i in range(150)}
    many["wide"] = noise(1.5, 16, 70_000, generator(0))
    found = measure(**many)
    assert together == [64, 64, 22, 1]
    assert list(found) == [(name, "grouped_mle") for name in many]
    for name in ("group_0", "group_64", "group_149"):
        alone = measure(**{name: many[name]})[name, "grouped_mle"]
        beside = found[name, "grouped_mle"]
        assert beside.alpha == pytest.approx(alone.alpha, abs=1e-3)
        assert (beside.low, beside.high) == pytest.approx((alone.low, alone.high), abs=1e-2)


def student(freedom: float, n: int, d: int) -> Tensor:
    torch.manual_seed(0)
    return StudentT(torch.tensor(freedom)).sample((n, d)).double() * noise(2.0, 1, d, generator(1))


def test_a_stable_law_keeps_its_index_and_a_finite_variance_climbs_to_two() -> None:
    found = measure(stable=noise(1.5, 256, 300, generator(0)), student=student(3.0, 256, 300))
    stable, t = (found[name, "grouped_mle"] for name in ("stable", "student"))
    assert [a.num_minibatches for a in stable.aggregated] == [2, 4, 8, 16]
    assert [a.num_draws for a in stable.aggregated] == [128, 64, 32, 16]
    assert [a.alpha for a in stable.aggregated] == pytest.approx([1.5] * 4, abs=0.05)
    climb = [t.alpha, *(a.alpha for a in t.aggregated)]
    assert all(after > before - 0.02 for before, after in pairwise(climb))  # 16 averages tell no more
    assert climb[0] < 1.7
    assert climb[-1] > 1.83
    for m in (stable, t):
        assert [a.gaussian_alpha for a in m.aggregated] == pytest.approx([2.0] * 4, abs=0.03)
        assert all(a.low <= a.alpha <= a.high for a in m.aggregated)


def test_the_histogram_of_the_noise_leaves_out_zeros_and_the_centres() -> None:
    x = noise(1.5, 64, 20, generator(0))
    x[:10, 3] = -1  # where the gradient is 0
    (m,) = measure(group=x).values()
    assert sum(m.standardized_noise.counts) == 63 * 20 - 10


def test_as_many_averages_as_there_are_sixteen_draws_for() -> None:
    for n, sizes in ((16, []), (31, []), (32, [2]), (64, [2, 4]), (100, [2, 4])):
        (m,) = measure(group=noise(1.5, n, 20, generator(2))).values()
        assert [a.num_minibatches for a in m.aggregated] == sizes


@pytest.mark.parametrize(("name", "law"), [("gaussian", "gaussian"), ("stable", "stable"), ("student", "student_t")])
def test_the_best_law_in_a_word(name: str, law: str) -> None:
    samples = {
        "gaussian": noise(2.0, 64, 400, generator(3)),
        "stable": noise(1.5, 64, 400, generator(4)),
        "student": student(3.0, 64, 400),
    }
    (m,) = measure(group=samples[name]).values()
    assert m.law == law
    assert (m.gaussian_p_value <= 0.051) == (law != "gaussian")
    assert m.kolmogorov_distance < 0.03
    assert m.gain >= 0
    assert (m.student_t_gain > m.gain + 1e-3) == (law == "student_t")
    assert m.laplace_gain < max(m.gain, m.student_t_gain, 0)


def test_an_index_that_makes_no_sense_is_said_to_make_none() -> None:
    uniform = torch.rand(64, 300, generator=generator(9), dtype=torch.float64) - 0.5
    found = measure(
        uniform=uniform, stable=noise(1.5, 64, 300, generator(10)), shared=noise(1.5, 64, 300, generator(11), 3)
    )
    assert found["uniform", "grouped_mle"].note == "no stable law fits: Kolmogorov distance 0.10"
    assert found["stable", "grouped_mle"].note == found["shared", "grouped_mle"].note == ""


def test_projections_of_gaussian_noise_pass_and_of_heavy_noise_do_not() -> None:
    found = measure(gaussian=noise(2.0, 64, 300, generator(5)), heavy=noise(1.2, 64, 300, generator(6)))
    gaussian, heavy = (found[name, "grouped_mle"] for name in ("gaussian", "heavy"))
    assert min(gaussian.shapiro_wilk, gaussian.anderson_darling) > 0.8
    assert max(heavy.shapiro_wilk, heavy.anderson_darling) < 0.2
    for m in (gaussian, heavy):
        assert min(m.gaussian_shapiro_wilk, m.gaussian_anderson_darling) > 0.8


def test_coordinates_are_summed_up_by_median_and_harmonic_mean() -> None:
    (m,) = measure(group=noise(1.5, 200, 300, generator(7))).values()
    assert m.coordinate_median == pytest.approx(1.5, abs=0.05)
    assert m.coordinate_harmonic_mean == pytest.approx(1.5, abs=0.05)


def test_groups_together_are_what_they_are_alone_but_for_the_surrogates() -> None:
    samples = {f"group{d}": noise(1.4, 64, d, generator(d)) for d in (1, 7, 300)}
    together = measure(["grouped_mle", "group_sum"], **samples)
    for (group, estimator), m in together.items():
        alone = measure(estimator, **{group: samples[group]})[group, estimator]
        for field in ("alpha", "low", "high", "scale", "zero_share", "coordinate_median", "kolmogorov_distance"):
            assert getattr(m, field) == pytest.approx(getattr(alone, field), rel=1e-4, nan_ok=True), field
        assert m.coordinate_alphas.counts == alone.coordinate_alphas.counts


@pytest.mark.parametrize(
    ("x", "note"),
    [
        (torch.zeros(0, 5), "no minibatch gave a draw"),
        (torch.full((64, 5), -1.0), "no gradient reached this group"),
        (torch.full((64, 5), math.nan), "5 of 5 series left out: NaN or infinite values"),
        (torch.ones(1, 5), "5 of 5 series left out: constant values"),
    ],
)
def test_nothing_to_measure_reads_nan_with_a_note(x: Tensor, note: str) -> None:
    (m,) = measure(["grouped_mle"], group=x).values()
    for field in ("alpha", "low", "high", "gaussian_p_value", "kolmogorov_distance", "shapiro_wilk", "laplace_gain"):
        assert math.isnan(getattr(m, field)), field
    assert m.law == "none"
    assert m.note == note
    assert sum(m.coordinate_alphas.counts) == 0
    assert all(math.isnan(a.alpha) for a in m.aggregated)


@pytest.mark.parametrize("estimator", sorted(resolve_estimators(["characteristic", "hill", "log_moment", "quantile"])))
def test_any_estimator_may_be_the_first(estimator: str) -> None:
    found = measure([estimator, "grouped_mle"], group=noise(1.3, 64, 50, generator(8)))
    first, second = found["group", estimator], found["group", "grouped_mle"]
    assert first.alpha == pytest.approx(second.alpha, abs=0.7)
    assert (first.law, first.gaussian_p_value) == (second.law, second.gaussian_p_value)


@pytest.mark.parametrize(
    ("name", "options", "called"),
    [
        ("hill", {"k": 20}, "hill(k=20)"),
        ("power_law", {"x_min": 0.5}, "power_law(x_min=0.5)"),
        ("group_sum", {"group_size": [4, 8], "permutations": 2}, "group_sum(group_size=[4, 8], permutations=2)"),
    ],
)
def test_an_estimator_with_arguments_is_the_function_with_them(name: Any, options: dict[str, Any], called: str) -> None:
    x = noise(1.5, 64, 30, generator(5))
    own = NamedEstimator(name, options)
    for pooled in (False, True):
        expected = functional.estimators()[name](x, pooled=pooled, **options)
        assert torch.equal(own(x, pooled=pooled).alpha, expected.alpha)
        assert not torch.equal(functional.estimators()[name](x, pooled=pooled).alpha, expected.alpha)
    assert {m.estimator for m in measure(["grouped_mle", own], group=x).values()} == {"grouped_mle", called}


def by_differentiating(x: Tensor, *, pooled: bool = False) -> TailIndexEstimate:
    """Differentiates the likelihood of an exponential law of |x|, as somebody's own estimator might."""
    rate = torch.ones((), dtype=x.dtype, requires_grad=True)
    (rate.log() - rate * x.abs().mean()).backward()
    assert rate.grad is not None
    return replace(functional.quantile(x, pooled=pooled), gain=rate.grad)


@pytest.mark.parametrize("context", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_a_function_of_ones_own_may_differentiate(context: Any) -> None:
    x = noise(1.5, 64, 30, generator(7))
    with context():
        (found,) = measure(by_differentiating, group=x).values()
    assert found.estimator == "by_differentiating"
    assert found.alpha == pytest.approx(functional.quantile(x, pooled=True).alpha.item())
    assert found.gain == pytest.approx(1 - x.abs().mean().item())


def in_whole_numbers(x: Tensor, *, pooled: bool = False) -> TailIndexEstimate:
    found = functional.grouped_mle(x, pooled=pooled)
    return replace(found, **{name: getattr(found, name).round().long() for name in ("alpha", "low", "high")})


def test_numbers_that_are_not_an_estimators_own_keep_their_precision() -> None:
    group = noise(1.3, 64, 50, generator(8))
    (found, *_), (expected, *_) = measure(in_whole_numbers, group=group).values(), measure(group=group).values()
    assert (found.alpha, found.low) == (round(expected.alpha), round(expected.low))
    for name in ("noise_norm", "gain", "kolmogorov_distance", "shapiro_wilk", "scale", "standardized_noise"):
        assert getattr(found, name) == getattr(expected, name), name


def test_too_few_draws_for_the_arguments_are_no_error_but_a_note() -> None:
    x = noise(1.5, 64, 30, generator(6))
    (enough,) = measure(NamedEstimator("hill", {"k": 20}), group=x).values()
    assert [a.num_draws for a in enough.aggregated] == [32, 16]
    assert [math.isnan(a.alpha) for a in enough.aggregated] == [False, True]
    assert enough.alpha == functional.hill(x, k=20, pooled=True).alpha.item()
    (few,) = measure(NamedEstimator("hill", {"k": 64}), group=x).values()
    assert math.isnan(few.alpha)
    assert "hill needs 1 <= k < n order statistics, got k=64, n=64" in few.note
    each = NamedEstimator("hill", {"k": 64})(x)
    assert each.alpha.shape == each.scale.shape == each.num_values.shape == (30,)


@pytest.mark.parametrize(
    ("name", "options", "match"),
    [
        ("hil", {"k": 10}, "estimators must be among .*'hill'.* got 'hil'"),
        ("hill", {"kk": 10}, "options must be arguments of hill, got .*'kk': 10.*unexpected keyword argument 'kk'"),
        ("hill", {"k": -1}, "options must be arguments of hill, .*hill needs 1 <= k < n"),
        ("hill", 3, "options must be arguments of hill by name, got 3"),
        ("hill", {"k": "many"}, "options must be arguments of hill, .*'many'"),
        (
            "hill",
            {"pooled": True},
            "options must be arguments of hill, .*multiple values for .* 'pooled'",
        ),
        ("power_law", {"x_min": -1.0}, "power_law needs a positive, finite x_min"),
        ("group_sum", {"group_size": 1}, "group_sum needs group_size >= 2"),
    ],
)
def test_wrong_arguments_of_an_estimator_are_refused(name: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        NamedEstimator(name, options)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_averages_of_groups_without_coordinates_are_as_many_as_of_others(size: int) -> None:
    assert aggregated(torch.zeros(64, 0), size).shape == (64 // size, 0)
    assert aggregated(torch.zeros(64, 3), size).shape == (64 // size, 3)


def test_a_group_without_coordinates_has_no_tail_index() -> None:
    found = measure(empty=torch.zeros(64, 0), full=noise(1.5, 64, 30, generator(8)).float())
    assert all(math.isnan(m.alpha) == (name[0] == "empty") for name, m in found.items())
