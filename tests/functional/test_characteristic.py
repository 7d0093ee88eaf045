from __future__ import annotations

import cmath
import math

import pytest
import torch
from torch import Tensor

from lightning_tailindex.functional import characteristic, grouped_mle
from lightning_tailindex.functional.characteristic import _covariance, _curve, _unit

from .samples import generator, noise, stable


def skewed(alpha: float, shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    """Draws of the stable law of skewness 1, by the formula of Chambers, Mallows and Stuck."""
    v = math.pi * (torch.rand(shape, generator=rng, dtype=torch.float64) - 0.5)
    w = torch.empty(shape, dtype=torch.float64).exponential_(generator=rng)
    tangent = math.tan(math.pi * alpha / 2)
    turned, factor = v + math.atan(tangent) / alpha, (1 + tangent**2) ** (0.5 / alpha)
    first = factor * torch.sin(alpha * turned) / v.cos() ** (1 / alpha)
    return first * ((v - alpha * turned).cos() / w) ** ((1 - alpha) / alpha)


# Standard errors over the Cramér-Rao bound, at n = 1000: alpha, bound times sqrt(n), ratio.
EFFICIENCY = [(1.1, 1.2190, 1.11), (1.3, 1.4176, 1.05), (1.5, 1.5354, 1.01), (1.7, 1.5019, 1.01), (1.9, 1.127, 1.02)]


@pytest.mark.parametrize(("alpha", "bound", "ratio"), EFFICIENCY)
def test_nearly_as_precise_as_possible(alpha: float, bound: float, ratio: float) -> None:
    error = characteristic(stable(alpha, (1000, 1000), generator(0))).alpha - alpha
    assert error.square().mean().sqrt().item() * math.sqrt(1000) / bound == pytest.approx(ratio, rel=0.07)
    assert abs(error.mean().item()) < 0.01


def test_gaussian_values_read_two() -> None:
    estimates = characteristic(stable(2.0, (1000, 1000), generator(1)))
    assert estimates.alpha.sub(2).square().mean().sqrt() < 0.01
    assert estimates.alpha.max() == 2
    assert (estimates.high == 2).double().mean() > 0.95


def test_curve_equals_an_obvious_loop() -> None:
    x, t = stable(1.4, (50, 3), generator(2)) + 5, [0.1, 0.7, 1.1]
    for series, column in zip(x.T, _curve(x, _unit(x), torch.tensor(t, dtype=x.dtype)).T, strict=True):
        values = sorted(series.tolist())
        # Of 50 values the quarter stands at the 13th, (13 - 1/2) / 50.
        unit = (values[37] - values[12]) / 2
        for frequency, point in zip(t, column.tolist(), strict=True):
            total = sum(cmath.exp(1j * frequency * value / unit) for value in values)
            square = (abs(total) ** 2 / 50 - 1) / 49
            assert point == pytest.approx(math.log(-math.log(square) / 2), abs=1e-9)


@pytest.mark.parametrize("alpha", [0.7, 1.5, 2.0])
def test_covariance_is_that_of_simulated_curves(alpha: float) -> None:
    t = torch.tensor([0.3, 0.6, 1.0], dtype=torch.float64)
    phi = torch.stack([(s * stable(alpha, (2000, 2000), generator(3))).cos().mean(0) for s in t])
    curves = torch.log(-phi.log())
    assert torch.allclose(2000 * curves.cov(), _covariance(torch.tensor([alpha], dtype=t.dtype), t)[0], rtol=0.15)


def test_location_does_not_matter() -> None:
    x = stable(1.5, (1000, 50), generator(4))
    assert torch.allclose(characteristic(x).alpha, characteristic(x + 3).alpha, atol=1e-9)
    assert not torch.allclose(characteristic(x).alpha, characteristic(x * x).alpha, atol=0.1)


def test_skew_does_not_matter() -> None:
    x = skewed(1.5, (1000, 300), generator(5))
    assert characteristic(x).alpha.mean().item() == pytest.approx(1.5, abs=0.015)
    assert grouped_mle(x, center="none").alpha.mean().item() > 1.65


def test_zeros_are_counted_and_left_out() -> None:
    rng = generator(6)
    x = stable(1.5, (2000, 50), rng)
    half = characteristic(torch.where(torch.rand(2000, 50, generator=rng) < 0.5, 0.0, x))
    assert half.alpha.mean().item() == pytest.approx(1.5, abs=0.03)
    assert half.scale.mean().item() == pytest.approx(1, abs=0.03)
    assert half.zero_share.mean().item() == pytest.approx(0.5, abs=0.01)
    assert torch.equal(half.num_values, (2000 * (1 - half.zero_share)).round().long())


@pytest.mark.parametrize(("draws", "tolerance"), [(32, 0.04), (64, 0.03), (128, 0.02)])
@pytest.mark.parametrize("alpha", [1.2, 1.5, 1.8, 2.0])
def test_pooled_over_unequal_scales_has_little_bias(alpha: float, draws: int, tolerance: float) -> None:
    estimate = characteristic(noise(alpha, draws, 1500, generator(7)), pooled=True)
    assert estimate.alpha.item() == pytest.approx(alpha, abs=tolerance)


@pytest.mark.parametrize("series", [1, 40])
def test_pooled_interval_covers_where_quartiles_jump(series: int) -> None:
    estimates = [characteristic(noise(0.7, 64, series, generator(i)), pooled=True) for i in range(60)]
    assert sum(bool(e.low < 0.7 < e.high) for e in estimates) >= 52
    assert all(bool(e.alpha > 0.3) for e in estimates)


@pytest.mark.parametrize("rank", [None, 3])
def test_pooled_interval_covers(rank: int | None) -> None:
    estimates = [characteristic(noise(1.5, 144, 40, generator(100 + i), rank), pooled=True) for i in range(100)]
    assert 85 <= sum(bool(e.low < 1.5 < e.high) for e in estimates) <= 100


def test_says_that_the_range_ends() -> None:
    assert "α at the lower end of its range, 0.2" in characteristic(stable(0.1, (1000,), generator(8))).note


def test_equal_quartiles() -> None:
    x = torch.cat([torch.ones(80), torch.randn(20, generator=generator(9))])
    assert characteristic(x).note == "1 of 1 series left out: equal quartiles"


def test_a_value_far_beyond_all_others_is_a_number() -> None:
    x = 1e-20 * torch.randn(400, 1, generator=generator(0))
    x[0] = 1e20
    assert characteristic(x).alpha.item() == pytest.approx(characteristic(x[1:]).alpha.item(), abs=0.2)
