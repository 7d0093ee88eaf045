"""Noise beside its laws: what is drawn, read off the axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from numpy.testing import assert_allclose
from torch import Tensor

from lightning_tailindex.analysis import analyse, resolve_estimators
from lightning_tailindex.distributions import SymmetricStable
from lightning_tailindex.figures import noise_density, noise_norms, noise_qq
from lightning_tailindex.loggers.pictures import rendered
from lightning_tailindex.noise.observation import GroupNoise, NoiseObservation
from lightning_tailindex.records import DrawSamples, Measurement, Report
from tests.functional.samples import generator, noise

from .reports import NOISE_EDGES, histogram, measurement, report

WIDTH = 0.25


def measured(x: Tensor) -> Measurement:
    norm = torch.tensor(1.0)
    group = GroupNoise("fc1", 1 + x, torch.ones(x.shape[1], dtype=x.dtype), x.shape[1], norm, norm)
    observation = NoiseObservation((group,), len(x), 256, 8, shares_data=False)
    return analyse(observation, resolve_estimators("grouped_mle"), step=0, seed=0).whole_model


def counted(alpha: float, **counts: tuple[int, ...]) -> Measurement:
    return replace(measurement("fc1", 1.5), alpha=alpha, standardized_noise=histogram(NOISE_EDGES, **counts))


def of_law(alpha: float, scale: float = 1.0, total: float = 1e7) -> Measurement:
    """The histogram that a law expects."""
    edges = torch.tensor(NOISE_EDGES[1:-1], dtype=torch.float64)
    below = SymmetricStable(torch.tensor(alpha, dtype=torch.float64), scale).cdf(edges)
    shares = torch.cat([below.new_zeros(1), below, below.new_ones(1)]).diff()
    return counted(alpha, counts=tuple(round(total * float(share)) for share in shares))


def bins(ax: Axes) -> np.ndarray:
    (histogram,) = ax.patches
    return histogram.get_data().values  # type: ignore[attr-defined]


def texts(ax: Axes) -> list[str]:
    return [text.get_text() for text in ax.get_legend().get_texts()]


@pytest.mark.parametrize("alpha", [0.6, 1.3, 2.0])
def test_a_stable_law_lies_on_its_own_histogram(alpha: float) -> None:
    fig, axes = noise_density(of_law(alpha))
    for ax in axes:
        stable, gaussian = ax.lines
        centres = np.array(NOISE_EDGES[1:-2]) + WIDTH / 2
        assert_allclose(np.interp(centres, *stable.get_data()), bins(ax), rtol=0.01, atol=2e-6)
        close = np.allclose(np.interp(centres, *gaussian.get_data()), bins(ax), rtol=0.01, atol=2e-6)
        assert close == (alpha == 2.0)
    assert [ax.get_yscale() for ax in axes] == ["linear", "log"]
    assert isinstance(fig, Figure)


def test_the_gaussian_is_the_likeliest_and_keeps_its_scale() -> None:
    _, (_, ax) = noise_density(of_law(2.0, scale=1.7))
    assert texts(ax)[2].startswith("best Gaussian, standard deviation 2.40")  # sqrt(2) times 1.7
    _, gaussian = ax.lines
    x, y = gaussian.get_data()
    assert_allclose(np.sum(y) * (x[1] - x[0]), 1, rtol=1e-3)  # a density


def test_the_legend_tells_what_lies_beyond_the_bins() -> None:
    counts = (30, *([0] * 20), *([10] * 38), *([0] * 20), 90)
    _, (_, ax) = noise_density(counted(1.0, counts=counts))
    assert texts(ax) == [
        "noise\n24.0 % beyond ±9.75",
        "symmetric stable law, α = 1.00\nby grouped_mle\n6.5 % beyond ±9.75",  # 1 - 2 / pi * arctan(9.75)
        texts(ax)[2],
    ]
    assert_allclose(bins(ax).sum() * WIDTH, 0.76)


@pytest.mark.parametrize("alpha", [0.6, 1.3, 2.0])
def test_quantiles_of_the_right_law_lie_on_the_diagonal(alpha: float) -> None:
    fig, ax = noise_qq(of_law(alpha, total=1e9))
    _, stable, gaussian = ax.lines
    assert len(stable.get_xdata()) == len(gaussian.get_xdata()) > 40
    assert_allclose(*stable.get_data(), rtol=0.01, atol=0.01)
    assert np.allclose(*gaussian.get_data(), rtol=0.01, atol=0.01) == (alpha == 2.0)
    assert isinstance(fig, Figure)
    assert texts(ax) == [f"symmetric stable law, α = {alpha:.2f}", "best Gaussian"]


def test_quantiles_rest_on_five_values_at_least() -> None:
    counts = [0] * 80
    counts[10], counts[20], counts[40], counts[60], counts[70] = 4, 1, 100, 5, 4
    _, ax = noise_qq(counted(1.5, counts=tuple(counts)))
    y = ax.lines[1].get_ydata()
    assert (y.min(), y.max()) == (NOISE_EDGES[21], NOISE_EDGES[60])


@pytest.mark.parametrize("alpha", [1.2, 2.0])
def test_draws_give_the_picture_of_their_measurement(alpha: float) -> None:
    x = noise(alpha, 64, 200, generator(0))
    first, second = (noise_density(each)[1][1] for each in (measured(x), x))
    different = np.abs(bins(first) - bins(second))
    assert different.max() * WIDTH * x.numel() < 64 * 200 * 0.005
    assert texts(first)[1].splitlines()[0] == texts(second)[1].splitlines()[0]
    assert first.get_ylabel() == second.get_ylabel() == "density, in 1/σ"


def test_the_unit_of_the_draws_does_not_matter() -> None:
    x = noise(1.5, 64, 50, generator(1))
    units = torch.logspace(-6, 6, 50, dtype=x.dtype)
    for factor in (units, -units):
        assert_allclose(bins(noise_density(x * factor)[1][0]), bins(noise_density(units.sign() * x)[1][0]), atol=0.5)
    assert not np.allclose(bins(noise_density(x)[1][0]), bins(noise_density(x.square())[1][0]), atol=0.1)


@pytest.mark.parametrize(("alpha", "lines"), [(2.3, 2), (2.0, 2), (0.2, 2), (0.01, 1), (math.nan, 1), (-1.0, 1)])
def test_an_index_that_no_law_has(alpha: float, lines: int) -> None:
    m = replace(of_law(1.5), alpha=alpha)
    assert [len(ax.lines) for ax in noise_density(m)[1]] == [lines, lines]
    assert len(noise_qq(m)[1].lines) == lines + 1


def test_all_values_beyond_the_bins() -> None:
    m = counted(0.3, counts=(500, *([0] * 78), 500))
    _, (_, ax) = noise_density(m)
    assert texts(ax)[0] == "noise\n100.0 % beyond ±9.75"
    assert bins(ax).sum() == 0
    noise_qq(m)


def test_coordinates_that_are_constant_are_left_out() -> None:
    x = noise(1.5, 64, 20, generator(2))
    x[:, 3], x[:, 7], x[0, 11] = 0, 1, math.nan
    _, (ax, _) = noise_density(x)
    assert np.isfinite(bins(ax)).all()


@pytest.mark.parametrize("figure", [noise_density, noise_qq])
def test_nothing_to_draw_is_said(figure: type) -> None:
    name = figure.__name__
    with pytest.raises(ValueError, match=f"{name} needs noise with usable values, got group 'fc1' with none: no minib"):
        figure(measurement("fc1", math.nan))
    with pytest.raises(ValueError, match=rf"{name} needs .* got draws of shape \(64, 5\) with none: 5 of 5 series"):
        figure(torch.zeros(64, 5))
    with pytest.raises(ValueError, match=rf"{name} needs draws of shape \[n, d\], got \(3,\)"):
        figure(torch.ones(3))
    with pytest.raises(ValueError, match=rf"{name} needs draws of shape \[n, d\], got \(0, 3\)"):
        figure(torch.ones(0, 3))


def test_the_density_needs_two_axes() -> None:
    axes = Figure().subplots(1, 3)
    fig, drawn = noise_density(of_law(1.5), ax=axes[:2])
    assert fig is axes[0].figure
    assert drawn == (axes[0], axes[1])
    assert not axes[2].has_data()
    with pytest.raises(ValueError, match="noise_density needs ax to be two axes, got 3"):
        noise_density(of_law(1.5), ax=axes)
    with pytest.raises(ValueError, match="noise_density needs ax to be two axes, got 1"):
        noise_density(of_law(1.5), ax=axes[0])


def draws(*norms: float) -> Tensor:
    return torch.tensor(norms)[:, None] * torch.tensor([[0.6, 0.0, -0.8]])


NORMS = tuple(1 + i / 100 for i in range(20))


def test_norms_are_those_of_the_draws_and_outliers_have_names() -> None:
    fig, ax = noise_norms(draws(*NORMS, 9.0, 1.1, 30.0), [f"batch {i}" for i in range(23)])
    inside, outside = ax.lines[:2]
    expected = np.array([*NORMS, math.nan, 1.1, math.nan])
    assert_allclose(inside.get_ydata(), expected, rtol=1e-6)
    assert_allclose(np.array(outside.get_data()), [[20, 22], [9, 30]], rtol=1e-6)
    assert [text.get_text() for text in ax.texts] == ["batch 22", "batch 20"]
    squares = sum(norm**2 for norm in (*NORMS, 1.1))
    share = 100 * (81 + 900) / (81 + 900 + squares)
    assert f"outlier: 2 of 23,\n{share:.1f} % of the sum\nof squared norms" in texts(ax)
    assert isinstance(fig, Figure)


def test_names_are_numbers_if_none_are_given_and_no_more_than_asked_for() -> None:
    x = draws(*NORMS, 9.0, 30.0, 20.0)
    assert [text.get_text() for text in noise_norms(x)[1].texts] == ["21", "22", "20"]
    assert [text.get_text() for text in noise_norms(x, most=2)[1].texts] == ["21", "22"]
    assert [text.get_text() for text in noise_norms(x, most=0)[1].texts] == []
    assert [text.get_text() for text in noise_norms(draws(*NORMS))[1].texts] == []


def is_clear(one: Bbox, others: Sequence[Bbox]) -> bool:
    return not any(one.overlaps(other) for other in others)


@pytest.mark.parametrize("names", [None, [f"images/part_{i:05d}/scan_{i:05d}.png" for i in range(20)]])
@pytest.mark.parametrize("first", [4, 17])
def test_names_of_neighbours_hide_neither_each_other_nor_the_title(first: int, names: list[str] | None) -> None:
    norms = [*NORMS[:first], 9.0, 20.0, 9.5, *NORMS[first + 3 :]]
    samples = (DrawSamples(first + i, (124, 110, 77, 8)) for i in range(3))
    fig, ax = noise_norms(report_of(norms, *samples), names)
    rendered(fig)
    boxes = [Text.get_window_extent(text) for text in ax.texts]
    assert len(boxes) == 3
    for i, box in enumerate(boxes):
        assert is_clear(box, [ax.title.get_window_extent(), *boxes[:i], *boxes[i + 1 :]])
        assert box.y1 < ax.get_window_extent().y1


@pytest.mark.parametrize("norms", [(1.0,), (2.0, 2.0), (1.0, math.nan, 0.0, math.inf, 2.0)])
def test_few_norms_and_norms_that_are_gaps(norms: tuple[float, ...]) -> None:
    _, ax = noise_norms(draws(*norms))
    finite = [norm if 0 < norm < math.inf else math.nan for norm in norms]
    assert_allclose(ax.lines[0].get_ydata(), finite, rtol=1e-6)
    assert ax.get_legend() is not None


def test_norms_within_a_decade_have_numbers_beside_them() -> None:
    fig, ax = noise_norms(draws(*(0.72 * 1.045 ** (i % 20) for i in range(64))))
    low, high = 0.67, 1.84
    ax.set_ylim(low, high)
    fig.draw_without_rendering()
    labels = [*ax.get_yticklabels(), *ax.get_yticklabels(minor=True)]
    assert sum(bool(label.get_text()) and low <= label.get_position()[1] <= high for label in labels) > 1


def test_norms_say_what_they_need() -> None:
    for x, what in (
        (torch.ones(4), r"draws of shape \[n, d\], got \(4,\)"),
        (torch.zeros(4, 3), "a norm that is finite and not 0, got none in 4 draws"),
    ):
        with pytest.raises(ValueError, match=f"noise_norms needs {what}"):
            noise_norms(x)
    with pytest.raises(ValueError, match="noise_norms needs an index for each of the 4 draws, got 3"):
        noise_norms(torch.ones(4, 3), [1, 2, 3])
    with pytest.raises(ValueError, match="noise_norms needs most to be at least 0, got -1"):
        noise_norms(torch.ones(4, 3), most=-1)


def report_of(norms: list[float], *largest: DrawSamples) -> Report:
    return replace(report(300, fc1=1.2), draw_norms=tuple(norms), largest_draws=largest)


def test_outlying_draws_of_a_report_are_named_by_their_samples() -> None:
    found = report_of([*NORMS, 9.0, 30.0], DrawSamples(21, (7, 203, 55, 8)), DrawSamples(20, (4,)))
    _, ax = noise_norms(found)
    assert [text.get_text() for text in ax.texts] == ["21", "20"]
    assert texts(ax)[-1] == "samples of outliers:\n21: 7, 203, 55, …\n20: 4"
    assert ax.get_title() == "Norm of the noise of whole_model at step 300"
    assert [text.get_text() for text in noise_norms(report_of([*NORMS, 9.0]))[1].texts] == ["20"]
    named = noise_norms(found, range(100, 122))[1]
    assert [text.get_text() for text in named.texts] == ["121", "120"]
    assert texts(named)[-1] == "fence of outliers"
    with pytest.raises(ValueError, match="noise_norms needs a norm that is finite and not 0, got none in 0 draws"):
        noise_norms(report_of([]))
