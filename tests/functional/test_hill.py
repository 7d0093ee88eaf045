from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_tailindex.functional import hill

from .samples import generator, noise, pareto, stable


def slow(x: Tensor, k: int) -> float:
    size = sorted((abs(float(v)) for v in x if float(v) != 0), reverse=True)
    return k / sum(math.log(size[i] / size[k]) for i in range(k))


def slow_distance(x: Tensor, k: int) -> float:
    size = sorted((abs(float(v)) for v in x if float(v) != 0), reverse=True)
    alpha = slow(x, k)
    tail = size[:k][::-1]
    below = [sum(u < v for u in tail) / k for v in tail]
    return max(abs(1 - (v / size[k]) ** -alpha - share) for v, share in zip(tail, below, strict=True))


@pytest.mark.parametrize("k", [1, 7, 50, 99])
@pytest.mark.parametrize("zeros", [0.0, 0.3])
def test_equals_an_obvious_loop(k: int, zeros: float) -> None:
    rng = generator(0)
    x = stable(1.3, (200, 4), rng) * (torch.rand(200, 4, generator=rng) >= zeros)
    estimate = hill(x, k=k)
    assert estimate.alpha.tolist() == pytest.approx([slow(series, k) for series in x.T], rel=1e-9)
    assert estimate.num_values.tolist() == [k] * 4
    threshold = x.abs().sort(0, descending=True).values[k]
    share = k / (x != 0).sum(0)
    assert torch.allclose(share * (estimate.scale / threshold) ** -estimate.alpha, torch.ones(4, dtype=x.dtype))


def test_log_likelihood_is_that_of_the_exceedances() -> None:
    x = pareto(1.2, (100,), generator(1))
    size = x.abs().sort(descending=True).values
    estimate = hill(x, k=40)
    law = torch.distributions.Pareto(size[40], estimate.alpha)
    assert torch.allclose(estimate.log_likelihood, law.log_prob(size[:40]).sum())


@pytest.mark.parametrize("n", [30, 300])
def test_chosen_k_has_the_smallest_distance(n: int) -> None:
    x = stable(1.4, (n, 5), generator(2))
    chosen = hill(x)
    grid = torch.logspace(1, math.log10(n // 2), 64, dtype=torch.float64).round().long().unique().tolist()
    for series, alpha, k in zip(x.T, chosen.alpha, chosen.num_values, strict=True):
        best = min(grid, key=lambda k: slow_distance(series, k))
        assert int(k) == best
        assert float(alpha) == pytest.approx(slow(series, best))


@pytest.mark.parametrize("k", [5, 50, 300, 899])
def test_interval_is_exact_for_given_k(k: int) -> None:
    estimate = hill(pareto(1.5, (900, 2000), generator(3)), k=k)
    assert ((estimate.low < 1.5) & (estimate.high > 1.5)).double().mean().item() == pytest.approx(0.95, abs=0.015)
    assert (estimate.low > 1.5).double().mean().item() == pytest.approx(0.025, abs=0.011)


def test_interval_of_chosen_k_misses_a_little_more() -> None:
    estimate = hill(pareto(1.5, (900, 2000), generator(4)))
    assert ((estimate.low < 1.5) & (estimate.high > 1.5)).double().mean().item() == pytest.approx(0.925, abs=0.018)


def test_gaussian_noise_reads_large() -> None:
    x = torch.randn(10000, 10, generator=generator(5), dtype=torch.float64)
    assert bool((hill(x, k=100).alpha > 5).all())
    assert hill(stable(1.0, (10000, 10), generator(5)), k=100).alpha.mean().item() == pytest.approx(1, abs=0.1)


def test_stable_noise_above_one_and_a_half_reads_too_large() -> None:
    x = stable(1.8, (10000, 20), generator(6))
    assert hill(x, k=1000).alpha.mean() > 2.2


@pytest.mark.parametrize("k", [None, 60])
def test_pooled_averages_one_over_alpha(k: int | None) -> None:
    x = noise(1.5, 400, 30, generator(7), law=pareto)
    pooled, each = hill(x, k=k, pooled=True), hill(x, k=k)
    assert pooled.alpha.item() == pytest.approx(1 / (1 / each.alpha).mean().item())
    assert pooled.num_values == each.num_values.sum()
    assert bool(pooled.low < pooled.alpha < pooled.high)


def test_pooled_interval_covers() -> None:
    estimates = [hill(noise(1.5, 144, 40, generator(100 + i), law=pareto), k=50, pooled=True) for i in range(100)]
    assert 88 <= sum(bool(e.low < 1.5 < e.high) for e in estimates) <= 100


def test_far_values_are_no_trouble() -> None:
    x = pareto(0.05, (500,), generator(8))  # up to 1e60 or so
    assert torch.allclose(hill(x, k=200).alpha, hill(1e-150 * x, k=200).alpha, rtol=1e-9)
    small = (x.abs().log().clamp(max=60).exp()).float() * 1e-30
    assert torch.allclose(hill(small, k=200).alpha.double(), hill(small.double(), k=200).alpha, rtol=1e-5)


def test_no_value_beyond_the_threshold() -> None:
    x = torch.tensor([1.0, -1.0, 1.0]).repeat(10)
    for estimate in (hill(x), hill(x, k=5), hill(x, pooled=True)):
        assert bool(estimate.alpha.isnan())
        assert estimate.note == "1 of 1 series left out: no |x| beyond the threshold"


def test_fewer_values_than_k() -> None:
    x = pareto(1.5, (100, 2), generator(9))
    x[50:, 0] = 0
    estimate = hill(x, k=60)
    assert estimate.alpha.isnan().tolist() == [True, False]
    assert estimate.note == "1 of 2 series left out: fewer than 61 usable values"


@pytest.mark.parametrize("k", [0, -1, 30, 31])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(ValueError, match=rf"hill needs 1 <= k < n order statistics, got k={k}, n=30\."):
        hill(torch.ones(30), k=k)


def test_a_number_of_order_statistics_is_an_integer() -> None:
    with pytest.raises(ValueError, match=r"hill needs 1 <= k < n order statistics, got k=5\.5, n=40"):
        hill(torch.rand(40), k=5.5)  # type: ignore[arg-type]
