from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_tailindex.functional import log_moment

from .samples import generator, noise, stable

# Standard errors over the Cramér-Rao bound, at n = 1000, of estimates cut at 2: alpha, bound times sqrt(n), ratio.
EFFICIENCY = [(1.1, 1.2190, 1.48), (1.3, 1.4176, 1.82), (1.5, 1.5354, 2.39), (1.7, 1.5019, 3.10), (1.9, 1.127, 3.76)]


@pytest.mark.parametrize(("alpha", "bound", "ratio"), EFFICIENCY)
def test_as_precise_as_known(alpha: float, bound: float, ratio: float) -> None:
    error = log_moment(stable(alpha, (1000, 1000), generator(0))).alpha.clamp(max=2) - alpha
    assert error.square().mean().sqrt().item() * math.sqrt(1000) / bound == pytest.approx(ratio, rel=0.08)


def slow(series: Tensor) -> tuple[float, float]:
    values = sorted(v for v in series.tolist() if v != 0)
    centre = values[(len(values) - 1) // 2]
    logs = [math.log(abs(v - centre)) for v in values if v != centre]
    mean = sum(logs) / len(logs)
    variance = sum((v - mean) ** 2 for v in logs) / (len(logs) - 1)
    alpha = (6 / math.pi**2 * variance - 0.5) ** -0.5
    return alpha, math.exp(mean - 0.57721566490153286 * (1 / alpha - 1))


@pytest.mark.parametrize("n", [50, 51, 400])
@pytest.mark.parametrize("zeros", [0.0, 0.3])
def test_equals_an_obvious_loop(n: int, zeros: float) -> None:
    rng = generator(1)
    x = stable(1.3, (n, 4), rng) * (torch.rand(n, 4, generator=rng) >= zeros)
    estimate, wanted = log_moment(x), [slow(series) for series in x.T]
    assert estimate.alpha.tolist() == pytest.approx([alpha for alpha, _ in wanted], rel=1e-9)
    assert estimate.scale.tolist() == pytest.approx([scale for _, scale in wanted], rel=1e-9)
    assert estimate.num_values.tolist() == [int((series != 0).sum()) - 1 for series in x.T]
    assert estimate.zero_share.tolist() == pytest.approx([int((series == 0).sum()) / (n - 1) for series in x.T])


@pytest.mark.parametrize("alpha", [1.2, 1.8, 2.0])
def test_interval_covers(alpha: float) -> None:
    estimates = log_moment(stable(alpha, (300, 1000), generator(2)))
    covered = ((estimates.low < alpha) & (alpha < estimates.high))[estimates.alpha.isfinite()]
    assert 0.93 < covered.double().mean() < 0.98


def test_estimate_above_two_is_reported_as_it_is() -> None:
    estimates = log_moment(stable(2.0, (200, 300), generator(3)))
    assert estimates.alpha.nanmedian().item() == pytest.approx(2.0, abs=0.1)
    assert (estimates.alpha > 2.3).any()


def test_location_does_not_matter() -> None:
    x = stable(1.5, (1000, 50), generator(4))
    assert torch.allclose(log_moment(x).alpha, log_moment(x + 3).alpha, atol=1e-6)


@pytest.mark.parametrize(("draws", "tolerance"), [(16, 0.1), (64, 0.05)])
@pytest.mark.parametrize("alpha", [1.2, 1.5, 1.8, 2.0])
def test_pooled_over_unequal_scales_has_little_bias(alpha: float, draws: int, tolerance: float) -> None:
    estimate = log_moment(noise(alpha, draws, 4000, generator(5)), pooled=True)
    assert estimate.alpha.item() == pytest.approx(alpha, abs=tolerance)


@pytest.mark.parametrize("rank", [None, 3])
def test_pooled_interval_covers(rank: int | None) -> None:
    estimates = [log_moment(noise(1.5, 144, 40, generator(100 + i), rank), pooled=True) for i in range(100)]
    assert 85 <= sum(bool(e.low < 1.5 < e.high) for e in estimates) <= 100


def test_a_variance_too_small_gives_nan_and_a_note() -> None:
    outer = torch.linspace(1, 1.1, 50)
    x = torch.cat([-outer, torch.tensor([0.001]), outer])  # the median, nearly 0
    each, pooled = log_moment(x), log_moment(x, pooled=True)
    assert each.note == "variance of log|x| too small for any α in 1 of 1 series"
    assert pooled.note == "variance of log|x| too small for any α"
    for estimate in (each, pooled):
        assert all(bool(value.isnan()) for value in (estimate.alpha, estimate.low, estimate.high, estimate.scale))
