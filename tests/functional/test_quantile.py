from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_tailindex.functional import quantile
from lightning_tailindex.functional.quantile import _tables

from .samples import generator, noise, stable

# Standard errors over the Cramér-Rao bound, at n = 1000: alpha, bound times sqrt(n), ratio.
EFFICIENCY = [(1.1, 1.2190, 1.24), (1.3, 1.4176, 1.21), (1.5, 1.5354, 1.32), (1.7, 1.5019, 1.82), (1.9, 1.127, 2.48)]
# From tables III and V of McCulloch 1986: alpha, ratio of the quantiles, distance of the quartiles.
PUBLISHED = [(2.0, 2.439, 1.908), (1.0, 6.314, 2.000)]


@pytest.mark.parametrize(("alpha", "bound", "ratio"), EFFICIENCY)
def test_as_precise_as_known(alpha: float, bound: float, ratio: float) -> None:
    error = quantile(stable(alpha, (1000, 1000), generator(0))).alpha - alpha
    assert error.square().mean().sqrt().item() * math.sqrt(1000) / bound == pytest.approx(ratio, rel=0.08)


def test_gaussian_values() -> None:
    estimates = quantile(stable(2.0, (1000, 1000), generator(1)))
    assert estimates.alpha.sub(2).square().mean().sqrt().item() == pytest.approx(0.080, rel=0.1)
    assert estimates.alpha.max() == 2


@pytest.mark.parametrize(("alpha", "ratio", "quartiles"), PUBLISHED)
def test_published_values(alpha: float, ratio: float, quartiles: float) -> None:
    nodes, log_nu, log_quartile, _ = _tables()
    node = int((nodes - alpha).abs().argmin())
    assert nodes[node].item() == pytest.approx(alpha, abs=1e-9)
    assert log_nu[node].exp().item() == pytest.approx(ratio, abs=6e-4)
    assert 2 * log_quartile[node].exp().item() == pytest.approx(quartiles, abs=6e-4)


def test_closed_forms() -> None:
    x = torch.tan(math.pi * ((torch.arange(1, 10001, dtype=torch.float64) - 0.5) / 10000 - 0.5))
    estimate = quantile(x)
    assert estimate.alpha.item() == pytest.approx(1, abs=1e-4)
    assert estimate.scale.item() == pytest.approx(1, abs=1e-4)


def slow(series: Tensor) -> float:
    values = sorted(v for v in series.tolist() if v != 0)

    def at(p: float) -> float:
        place = p * len(values) - 0.5
        i = int(place)
        return values[i] + (place - i) * (values[i + 1] - values[i])

    return (at(0.95) - at(0.05)) / (at(0.75) - at(0.25))


@pytest.mark.parametrize("zeros", [0.0, 0.3])
def test_equals_an_obvious_loop(zeros: float) -> None:
    rng = generator(2)
    x = stable(1.3, (101, 5), rng) * (torch.rand(101, 5, generator=rng) >= zeros)
    nodes, log_nu, _, _ = _tables()
    for series, alpha in zip(x.T, quantile(x).alpha, strict=True):
        right = int((log_nu < math.log(slow(series))).sum())
        assert nodes[right] <= alpha <= nodes[right - 1]


@pytest.mark.parametrize("alpha", [1.2, 1.8])
def test_interval_covers(alpha: float) -> None:
    estimates = quantile(stable(alpha, (900, 1000), generator(3)))
    assert 0.92 < ((estimates.low < alpha) & (alpha < estimates.high)).double().mean() < 0.97


def test_location_does_not_matter() -> None:
    x = stable(1.5, (1000, 50), generator(4))
    assert torch.allclose(quantile(x).alpha, quantile(x + 3).alpha, atol=1e-9)
    assert not torch.allclose(quantile(x).alpha, quantile(x * x).alpha, atol=0.1)


def test_outliers_do_not_matter() -> None:
    x = stable(1.5, (1000,), generator(5))
    assert torch.equal(quantile(x).alpha, quantile(torch.where(x.abs() > 30, 1e6 * x, x)).alpha)


def test_zeros_are_counted_and_left_out() -> None:
    rng = generator(6)
    x = stable(1.5, (2000, 50), rng)
    half = quantile(torch.where(torch.rand(2000, 50, generator=rng) < 0.5, 0.0, x))
    assert half.alpha.mean().item() == pytest.approx(1.5, abs=0.03)
    assert half.zero_share.mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("draws", "tolerance"), [(32, 0.06), (64, 0.05), (128, 0.03)])
@pytest.mark.parametrize("alpha", [1.2, 1.5, 1.8, 2.0])
def test_pooled_over_unequal_scales_has_little_bias(alpha: float, draws: int, tolerance: float) -> None:
    estimate = quantile(noise(alpha, draws, 1500, generator(7)), pooled=True)
    assert estimate.alpha.item() == pytest.approx(alpha, abs=tolerance)


@pytest.mark.parametrize("rank", [None, 3])
def test_pooled_interval_covers(rank: int | None) -> None:
    estimates = [quantile(noise(1.5, 144, 40, generator(100 + i), rank), pooled=True) for i in range(100)]
    assert 85 <= sum(bool(e.low < 1.5 < e.high) for e in estimates) <= 100


def test_says_that_the_range_ends() -> None:
    assert "α at the lower end of its range, 0.2" in quantile(stable(0.1, (1000,), generator(8))).note


def test_equal_quartiles() -> None:
    x = torch.cat([torch.ones(80), torch.randn(20, generator=generator(9))])
    assert quantile(x).note == "1 of 1 series left out: equal quartiles"
