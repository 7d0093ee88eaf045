from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.distributions import Laplace

from lightning_tailindex.functional.normality import (
    _anderson_darling_p_value,
    anderson_darling,
    shapiro_wilk,
)
from lightning_tailindex.records import NormalityTest

from .samples import generator, stable

NormalityTester = Callable[[Tensor], NormalityTest]
Draw = Callable[[tuple[int, ...], torch.Generator], Tensor]
TESTS = pytest.mark.parametrize("test", [anderson_darling, shapiro_wilk])


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=generator(seed), dtype=torch.float64)


def uniform(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=rng, dtype=torch.float64)


def laplace(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return Laplace(0.0, 1.0).icdf(uniform(shape, rng))


def student(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Student's t with 3 degrees of freedom."""
    normal = torch.randn((4, *shape), generator=rng, dtype=torch.float64)
    return normal[0] / normal[1:].square().mean(0).sqrt()


def slightly_heavy(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return stable(1.8, shape, rng)


def variety(n: int) -> Tensor:
    """Gaussian, heavy, light, skewed and shifted series."""
    x, rng = randn(n, 5, seed=n), generator(n + 1)
    x[:, 1], x[:, 2] = stable(1.5, (n,), rng), uniform((n,), rng)
    x[:, 3] = x[:, 3].exp()
    x[:, 4] += 1e4
    return x


def same(a: NormalityTest, b: NormalityTest, tolerance: float = 0.0) -> bool:
    pairs = ((a.statistic, b.statistic), (a.p_value, b.p_value))
    return all(torch.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True) for x, y in pairs)


@pytest.mark.parametrize("n", [8, 11, 12, 13, 50, 1000, 5000])
def test_shapiro_wilk_is_scipys(n: int) -> None:
    x = variety(n)
    ours, theirs = shapiro_wilk(x), [scipy.stats.shapiro(series.numpy()) for series in x.T]
    wanted = torch.tensor([[float(t.statistic), float(t.pvalue)] for t in theirs], dtype=torch.float64).T
    torch.testing.assert_close(ours.statistic, wanted[0], rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.p_value, wanted[1], rtol=0, atol=1e-3)
    assert not torch.allclose(shapiro_wilk(x**3).statistic, wanted[0], atol=1e-3)


@pytest.mark.parametrize("n", [8, 50, 5000])
def test_anderson_darling_is_scipys(n: int) -> None:
    x = variety(n)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # scipy 1.17 asks for a `method` that scipy 1.12 does not know
        theirs = [float(scipy.stats.anderson(series.numpy()).statistic) for series in x.T]
    wanted = torch.tensor(theirs, dtype=torch.float64)
    torch.testing.assert_close(anderson_darling(x).statistic, wanted, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(anderson_darling(x**3).statistic, wanted, atol=1e-3)


def test_anderson_darling_at_the_published_critical_values() -> None:
    # D'Agostino and Stephens 1986, table 4.7.
    critical = torch.tensor([0.561, 0.631, 0.752, 0.873, 1.035], dtype=torch.float64)
    wanted = torch.tensor([0.15, 0.1, 0.05, 0.025, 0.01], dtype=torch.float64)
    torch.testing.assert_close(_anderson_darling_p_value(critical), wanted, rtol=0.025, atol=0)


def test_p_value_of_anderson_darling_falls_with_the_statistic() -> None:
    p_value = _anderson_darling_p_value(torch.linspace(0.1, 1000, 100_000, dtype=torch.float64))
    assert p_value.diff().max() < 2e-3  # the four pieces nearly meet
    assert 0 < p_value[-1] < 1e-100
    assert p_value.max() <= 1


@TESTS
@pytest.mark.parametrize("n", [8, 11, 12, 20, 64, 200])
def test_rejects_gaussian_values_as_often_as_it_says(test: NormalityTester, n: int) -> None:
    p_value = test(randn(n, 20_000 if n == 200 else 40_000, seed=n)).p_value
    for level in (0.01, 0.05, 0.1):
        tolerance = 4 * math.sqrt(level * (1 - level) / len(p_value)) + 0.0015  # the approximations err by so much
        assert (p_value < level).double().mean().item() == pytest.approx(level, abs=tolerance)


@TESTS
@pytest.mark.parametrize("level", [0.25, 0.5, 0.9])
def test_large_p_values_are_as_frequent_as_they_say(test: NormalityTester, level: float) -> None:
    p_value = test(randn(200, 20_000, seed=12)).p_value
    assert (p_value < level).double().mean().item() == pytest.approx(level, abs=0.018)


@TESTS
@pytest.mark.parametrize(("draw", "power"), [(student, 0.96), (slightly_heavy, 0.74), (uniform, 0.99), (laplace, 0.95)])
def test_rejects_what_is_not_gaussian(test: NormalityTester, draw: Draw, power: float) -> None:
    few, many = ((test(draw((n, 1000), generator(n))).p_value < 0.05).double().mean() for n in (20, 200))
    assert many > power
    assert 0.12 < few < 0.4


@TESTS
@pytest.mark.parametrize("factor", [-1.0, 1e-100, 1e100])
def test_invariant_to_location_scale_sign_and_order(test: NormalityTester, factor: float) -> None:
    x = stable(1.9, (64, 5), generator(0))
    assert same(test(x), test(factor * (x - 1e3)), 1e-9)
    assert same(test(x), test(x.flip(0)), 1e-9)
    assert not same(test(x), test(x.abs()), 1e-2)


@TESTS
def test_series_are_independent_of_each_other(test: NormalityTester) -> None:
    x = variety(50)[:, :4].reshape(50, 2, 2)
    each = [test(series).p_value for series in x.flatten(1).T]
    torch.testing.assert_close(test(x).p_value, torch.stack(each).reshape(2, 2), rtol=1e-9, atol=0)
    assert test(x).statistic.shape == test(x).num_values.shape == (2, 2)
    assert test(x).num_values.eq(50).all()
    assert test(x[:, :0]).p_value.shape == (0, 2)


@TESTS
@pytest.mark.parametrize("size", [1e30, 1e300])
@pytest.mark.parametrize("where", [0, 17])
def test_an_outlier_neither_overflows_nor_passes(test: NormalityTester, size: float, where: int) -> None:
    x = randn(64, seed=1)
    assert test(x).p_value > 0.05
    x[where] = size
    result = test(x)
    assert 0 <= result.p_value < 1e-12
    assert result.note == ""
    alone = torch.zeros(64, dtype=torch.float64).index_fill(0, torch.tensor(where), 1.0)
    assert same(result, test(alone), 1e-9)  # beside it the other values are all the same


@TESTS
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_computes_alike_in_every_dtype(test: NormalityTester, dtype: torch.dtype) -> None:
    x = variety(50)[:, :4].to(dtype)
    got, wanted = test(x), test(x.double())
    assert got.p_value.dtype == got.statistic.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.allclose(got.p_value.double(), wanted.p_value, rtol=1e-6)


@TESTS
def test_bad_data_give_nan_and_a_note(test: NormalityTester) -> None:
    x = randn(20, 4, seed=2)
    x[3, 0], x[4, 1], x[:, 2] = math.nan, math.inf, 0.1
    result = test(x)
    assert result.statistic.isnan().tolist() == result.p_value.isnan().tolist() == [True, True, True, False]
    assert result.note == "2 of 4 series left out: NaN or infinite values; 1 of 4 series left out: constant values"
    assert same(test(x[:, 3]), NormalityTest(result.statistic[3], result.p_value[3], result.num_values[3]), 1e-9)


@TESTS
@pytest.mark.parametrize("n", [2, 5, 7])
def test_too_few_values_give_nan_and_a_note(test: NormalityTester, n: int) -> None:
    x = randn(8, 3, seed=3)
    assert test(x[:n]).p_value.isnan().all()
    assert test(x[:n]).note == "3 of 3 series left out: fewer than 8 values"
    assert test(x).p_value.isfinite().all()


def test_shapiro_wilk_gives_no_p_value_beyond_5000_values() -> None:
    x = randn(5001, seed=4)
    result = shapiro_wilk(x)
    assert result.note == "no p-value: Shapiro and Wilk's is known up to 5000 values, got 5001"
    assert result.p_value.isnan()
    assert result.statistic > 0.99
    assert shapiro_wilk(x[:5000]).p_value.isfinite()


@TESTS
def test_errors(test: NormalityTester) -> None:
    with pytest.raises(TypeError, match=rf"{test.__name__} needs real floating point values, got torch\.int64"):
        test(torch.ones(9, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"at least one draw along dim 0, got shape \(0, 2\)"):
        test(torch.ones(0, 2))
