from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import t as student_t
from torch import Tensor

from lightning_tailindex.functional import law_fit
from lightning_tailindex.functional._pooled import Pooled
from lightning_tailindex.functional.grouped_mle import counted_groups, pooled_estimates, pooled_groups
from lightning_tailindex.functional.law_fit import LAWS, law_fits
from lightning_tailindex.records import LawFit

from .samples import generator, noise, stable

EDGES = [2.0**k * (1 + j / 4) for k in range(-3, 12) for j in range(4)] + [4096.0]
FIELDS = ("gains", "p_value", "kolmogorov_distance")


def student(freedom: float, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    squares = torch.randn(*shape, int(freedom), generator=rng, dtype=torch.float64).square().mean(-1)
    return torch.randn(shape, generator=rng, dtype=torch.float64) / squares.sqrt()


def laplace(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    one, other = (torch.rand(shape, generator=rng, dtype=torch.float64).log() for _ in range(2))
    return one - other


def samples(shape: tuple[int, ...], rng: torch.Generator) -> dict[str, Tensor]:
    return {
        "gaussian": stable(2.0, shape, rng),
        "stable": stable(1.5, shape, rng),
        "student_t": student(3, shape, rng),
        "laplace": laplace(shape, rng),
    }


@pytest.mark.parametrize("law", LAWS)
def test_names_the_law_of_a_sample(law: str) -> None:
    x = samples((1000, 200), generator(0))[law]
    each, pooled = law_fit(x), law_fit(x * torch.linspace(-9, 9, 200).exp(), pooled=True, num_surrogates=19)
    assert each.best.eq(LAWS.index(law)).double().mean() > 0.8
    assert pooled.name == law
    assert pooled.laws == each.laws == LAWS
    assert pooled.gains.shape == (4,)
    assert each.gains.shape == (4, 200)
    assert each.best.shape == each.p_value.shape == each.kolmogorov_distance.shape == (200,)


def test_a_uniform_sample_is_gaussian_by_the_name_and_far_from_it() -> None:
    x = torch.rand(1000, 100, generator=generator(1), dtype=torch.float64)
    gaussian = law_fit(stable(2.0, (1000, 100), generator(2)))
    each, pooled = law_fit(x), law_fit(x, pooled=True, num_surrogates=19)
    assert each.best.eq(0).double().mean() > 0.95
    assert pooled.name == "gaussian"
    assert pooled.p_value > 0.05
    assert each.kolmogorov_distance.median() > 2 * gaussian.kolmogorov_distance.median()
    assert pooled.kolmogorov_distance > 0.04


def compared(x: Tensor) -> tuple[Tensor, Tensor]:
    """Edges of the cells of a sample, and its counts by comparison, no tables."""
    ordered = x.sort().values
    size = (x - ordered[(len(x) - 1) // 2]).abs()
    unit = (ordered[len(x) - 1 - len(x) // 4] - ordered[len(x) // 4]) / 2
    edges = torch.tensor(EDGES, dtype=torch.float64) * unit
    return edges, torch.bincount(torch.bucketize(size[size > 0], edges, right=True), minlength=62)


def slow_maxima(x: Tensor) -> tuple[float, float]:
    """Largest log-likelihoods of a Gaussian and of Laplace's law at 1501 scales."""
    edges, counts = compared(x)
    far = edges * torch.linspace(5, -10, 1501, dtype=torch.float64).exp()[:, None] / edges[EDGES.index(1.0)]
    survivals = torch.erfc(far / math.sqrt(2)), (-far).exp()
    gaussian, of_laplace = (_log_likelihood(counts, survival).max().item() for survival in survivals)
    return gaussian, of_laplace


def slow_gains(x: Tensor) -> tuple[float, float]:
    """Gains of Student's and Laplace's laws over the Gaussian by slow searches."""
    edges, counts = compared(x)

    def minus(log_freedom: float, log_scale: float) -> float:
        freedom = math.exp(min(log_freedom, math.log(40)))
        s = torch.as_tensor(2 * student_t.sf(edges.numpy() * math.exp(-log_scale), freedom))
        return -_log_likelihood(counts, s).item() + 1e3 * max(log_freedom - math.log(40), 0)

    start = (1.0, math.log(edges[EDGES.index(1.0)]))
    best = -minimize(lambda p: minus(*p), start, method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-8}).fun
    gaussian, of_laplace = slow_maxima(x)
    return float(best - gaussian) / int(counts.sum()), (of_laplace - gaussian) / int(counts.sum())


def slow_laplace_gain(x: Tensor) -> float:
    """Gain of Laplace's law over the Gaussian."""
    gaussian, of_laplace = slow_maxima(x)
    return (of_laplace - gaussian) / int(compared(x)[1].sum())


def _log_likelihood(counts: Tensor, survival: Tensor) -> Tensor:
    """Of counts [cells] under chances of values beyond the edges, [..., edges]: minus infinity where there is none."""
    ends = torch.ones_like(survival[..., :1]), torch.zeros_like(survival[..., :1])
    p = -torch.cat([ends[0], survival, ends[1]], dim=-1).diff(dim=-1)
    return torch.xlogy(counts, p.clamp(min=0)).sum(-1)


@pytest.mark.parametrize("law", LAWS)
def test_gain_of_students_law_equals_a_slow_search_without_tables(law: str) -> None:
    x = 4 * samples((250,), generator(3))[law] + 3
    assert law_fit(x).gains[2:].tolist() == pytest.approx(slow_gains(x), abs=1e-2)


@pytest.mark.parametrize("alpha", [1.2, 0.7])
def test_gain_of_laplaces_law_where_its_scale_is_far_from_the_values_middle(alpha: float) -> None:
    x = stable(alpha, (256, 64), generator(0))
    expected = [slow_laplace_gain(series) for series in x.T]
    assert law_fit(x).gains[3].tolist() == pytest.approx(expected, abs=1e-2)
    # with the scale integrated out, half a logarithm of the curvature less on both sides
    assert law_fit(x, pooled=True).gains[3].item() == pytest.approx(sum(expected) / 64, abs=4e-3)


def test_the_gaussian_gains_nothing_above_itself() -> None:
    for x in samples((300, 50), generator(4)).values():
        fit = law_fit(x)
        assert bool((fit.gains[0] == 0).all())
        assert bool((fit.gains[1] > -1e-5).all())  # likelihoods of few draws are summed up in single precision
    assert abs(law_fit(stable(2.0, (1000, 50), generator(5))).gains[1:3].median()) < 0.003


def test_size_and_power_of_the_p_value_of_one_series() -> None:
    level = law_fit(torch.randn(200, 2000, generator=generator(6))).p_value.le(0.05).double().mean()
    power = law_fit(stable(1.9, (1000, 300), generator(7))).p_value.le(0.05).double().mean()
    assert 0.03 < level < 0.07
    assert power > 0.8


SIGMA = math.sqrt(0.05 * 0.95 / 120)


@pytest.mark.parametrize("rank", [3, 20, None])
def test_size_of_the_pooled_p_value(rank: int | None) -> None:
    fits = [
        law_fit(noise(2.0, 64, 60, rng, rank), pooled=True, num_surrogates=39, generator=rng)
        for rng in map(generator, range(120))
    ]
    rejected = sum(bool(fit.p_value < 0.051) for fit in fits) / len(fits)
    assert abs(rejected - 0.05) < 3 * SIGMA


def test_the_threshold_of_chi_square_has_another_size() -> None:
    samples = [noise(2.0, 64, 60, generator(i), 3) for i in range(1200)]
    ratios = [2 * e.gain * e.num_values for e in pooled_groups(samples, intervals=[False] * len(samples))]
    rejected = torch.stack(ratios).gt(2.71).double().mean()
    assert abs(rejected - 0.05) > 3 * math.sqrt(0.05 * 0.95 / 1200)


@pytest.mark.parametrize("rank", [3, 20, None])
def test_pooled_p_value_rejects_heavy_tails(rank: int | None) -> None:
    fits = [
        law_fit(noise(1.5, 64, 60, rng, rank), pooled=True, num_surrogates=39, generator=rng)
        for rng in map(generator, range(20))
    ]
    assert all(fit.p_value < 0.051 for fit in fits)
    assert all(fit.p_value >= 1 / 40 for fit in fits)


def test_kolmogorov_distance_is_chance_for_the_right_law_and_no_chance_for_another() -> None:
    n = 1000
    right, wrong = (law_fit(x).kolmogorov_distance for x in (stable(1.5, (n, 100), generator(8)), torch.rand(n, 100)))
    assert 0.3 < right.median() * math.sqrt(n) < 0.9  # .83 where nothing is fitted
    assert wrong.median() * math.sqrt(n) > 1.36
    pooled = law_fit(stable(1.5, (n, 100), generator(9)), pooled=True, num_surrogates=1)
    assert pooled.kolmogorov_distance < 0.005


BAD = {
    "NaN or infinite values": lambda x: x.index_fill(0, torch.tensor(3), math.nan),
    "constant values": torch.zeros_like,
    "fewer than 8 usable values": lambda x: x * (torch.arange(len(x)) < 7),
}


@pytest.mark.parametrize("reason", sorted(BAD))
def test_bad_series_have_no_law(reason: str) -> None:
    x = stable(1.5, (64, 3), generator(10))
    bad = torch.stack([BAD[reason](x[:, 0]), x[:, 1], x[:, 2]], dim=1)
    each, alone = law_fit(bad), law_fit(bad[:, 0])
    assert each.best.tolist()[0] == alone.best.item() == -1
    assert alone.name == "none"
    assert bool((each.best[1:] >= 0).all())
    for value in (each.gains[1:], each.p_value, each.kolmogorov_distance):
        assert value[..., 0].isnan().all()
        assert value[..., 1:].isfinite().all()
    assert f"1 of 3 series left out: {reason}" in each.note
    first, second = (law_fit(y, pooled=True, num_surrogates=9, generator=generator(11)) for y in (bad, x[:, 1:]))
    assert_same(first, second)
    assert f"1 of 3 series left out: {reason}" in first.note


@pytest.mark.parametrize("x", [torch.full((64, 3), math.nan), torch.ones(64, 3), torch.eye(4, 3), torch.ones(64, 0)])
def test_nothing_usable_has_no_law(x: Tensor) -> None:
    fit = law_fit(x, pooled=True)
    assert fit.name == "none"
    assert fit.note
    assert all(bool(value.isnan().all()) for value in (fit.gains[1:], fit.p_value, fit.kolmogorov_distance))
    assert law_fit(x).best.tolist() == [-1] * x.shape[1]


@pytest.mark.parametrize("pooled", [False, True])
def test_no_law_gains_anything_where_nothing_is_usable(pooled: bool) -> None:
    assert bool(law_fit(torch.full((64, 3), math.nan), pooled=pooled).gains.isnan().all())


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_dtype_is_float32_or_better(dtype: torch.dtype, pooled: bool) -> None:
    fit = law_fit(stable(1.5, (400, 2, 3), generator(12)).to(dtype), pooled=pooled, num_surrogates=9)
    assert {getattr(fit, name).dtype for name in FIELDS} == {torch.promote_types(dtype, torch.float32)}
    assert fit.best.dtype == torch.int64
    assert fit.gains.shape == ((4,) if pooled else (4, 2, 3))


def assert_same(a: LawFit, b: LawFit) -> None:
    assert a.name == b.name
    for name in FIELDS:
        torch.testing.assert_close(getattr(a, name), getattr(b, name), rtol=1e-5, atol=1e-6, equal_nan=True)


def test_fitting_samples_together_equals_fitting_one_after_the_other() -> None:
    xs = [noise(a, 64, d, generator(13)) for a, d in ((2.0, 30), (1.9, 80), (1.7, 5))]
    xs.append(torch.zeros(64, 3, dtype=torch.float64))
    one, other = generator(14), generator(14)
    pooled = Pooled(counted_groups(xs))
    estimates, expected = pooled_estimates(pooled), pooled.expected_counts()
    together = law_fits(pooled.groups, estimates, expected, num_surrogates=9, generator=one)
    for x, fit in zip(xs, together, strict=True):
        assert_same(fit, law_fit(x, pooled=True, num_surrogates=9, generator=other))


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"law_fit needs a whole number num_surrogates >= 1, got num_surrogates=0\."):
        law_fit(torch.ones(9), num_surrogates=0)
    with pytest.raises(TypeError, match=r"law_fit needs real floating point values, got torch\.int64\."):
        law_fit(torch.ones(9, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"law_fit needs at least one draw along dim 0, got shape \(0, 2\)\."):
        law_fit(torch.ones(0, 2))


def test_sizes_of_any_order_give_no_warning() -> None:
    found = law_fit(torch.logspace(-300, 300, 40, dtype=torch.float64), pooled=True, num_surrogates=19)
    assert found.gains.isfinite().all()
