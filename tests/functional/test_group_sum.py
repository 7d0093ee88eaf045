from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_tailindex.functional import group_sum

from .samples import generator, noise, stable

# Mean and standard deviation on independent values, K1 = sqrt(n): n, alpha, mean, sd.
CALIBRATION = [
    (900, 1.2, 1.21, 0.12),
    (900, 1.5, 1.51, 0.15),
    (900, 1.8, 1.82, 0.21),
    (900, 2.0, 2.03, 0.27),
    (10000, 1.2, 1.197, 0.044),
    (10000, 1.5, 1.499, 0.059),
    (10000, 1.8, 1.810, 0.076),
    (10000, 2.0, 2.004, 0.091),
]


@pytest.mark.parametrize(("n", "alpha", "mean", "sd"), CALIBRATION)
def test_calibration(n: int, alpha: float, mean: float, sd: float) -> None:
    repetitions = 400 if n == 900 else 150
    estimates = group_sum(stable(alpha, (n, repetitions), generator(0))).alpha
    # The table's own mean has an error too, of at most the same size.
    assert estimates.mean().item() == pytest.approx(mean, abs=4 * sd / math.sqrt(repetitions))
    assert estimates.std().item() == pytest.approx(sd, rel=4 / math.sqrt(2 * repetitions) + 0.05)


def slow(x: Tensor, size: int) -> float:
    groups = [x[i : i + size] for i in range(0, len(x) - size + 1, size)]
    sums = [math.log(abs(float(g.sum()))) for g in groups if float(g.sum()) != 0]
    values = [math.log(abs(float(v))) for g in groups for v in g if float(v) != 0]
    return math.log(size) / (sum(sums) / len(sums) - sum(values) / len(values))


@pytest.mark.parametrize(("n", "size"), [(100, 10), (60, 6), (50, 5), (47, 6), (9, 3), (64, 8)])
@pytest.mark.parametrize("zeros", [0.0, 0.3])
def test_equals_an_obvious_loop(n: int, size: int, zeros: float) -> None:
    rng = generator(1)
    x = stable(1.3, (n, 4), rng) * (torch.rand(n, 4, generator=rng) >= (zeros if n > 20 else 0))
    wanted = [slow(series, size) for series in x.T]
    wanted = [alpha if alpha > 0 else math.nan for alpha in wanted]
    assert group_sum(x).alpha.tolist() == pytest.approx(wanted, rel=1e-9, nan_ok=True)
    assert group_sum(x, group_size=size).alpha.tolist() == pytest.approx(wanted, rel=1e-9, nan_ok=True)


def test_pooled_averages_one_over_alpha() -> None:
    x = noise(1.5, 400, 30, generator(2))
    assert group_sum(x, pooled=True).alpha.item() == pytest.approx(1 / (1 / group_sum(x).alpha).mean().item())


@pytest.mark.parametrize("rank", [None, 3])
def test_pooled_interval_covers(rank: int | None) -> None:
    estimates = [group_sum(noise(1.5, 144, 40, generator(100 + i), rank), pooled=True) for i in range(100)]
    assert 88 <= sum(bool(e.low < 1.5 < e.high) for e in estimates) <= 100


def test_estimate_above_two_is_reported_as_it_is() -> None:
    estimates = group_sum(stable(2.0, (100, 100), generator(3))).alpha
    assert estimates.nanmedian().item() == pytest.approx(2.0, abs=0.3)
    assert (estimates > 2.2).any()


def test_zeros_are_counted_and_left_out() -> None:
    rng = generator(4)
    x = stable(2.0, (10000, 20), rng)
    estimate = group_sum(torch.where(torch.rand(10000, 20, generator=rng) < 0.01, 0.0, x))
    assert estimate.alpha.mean().item() == pytest.approx(2.0, abs=0.08)  # 1.80 where an eps stands in the logarithm
    assert estimate.zero_share.mean().item() == pytest.approx(0.01, abs=0.001)
    assert (estimate.num_values < 10000).all()


@pytest.mark.parametrize(("correlation", "reads"), [(0.01, 1.47), (0.1, 1.20)])
def test_flattened_draws_of_correlated_gaussians_read_heavy(correlation: float, reads: float) -> None:
    rng = generator(5)
    common = torch.randn(400, 1, generator=rng, dtype=torch.float64)
    x = correlation**0.5 * common + (1 - correlation) ** 0.5 * torch.randn(
        400, 1000, generator=rng, dtype=torch.float64
    )
    assert group_sum(x.flatten(), group_size=1000).alpha.item() == pytest.approx(reads, abs=0.08)
    assert group_sum(x, pooled=True).alpha.item() == pytest.approx(2, abs=0.3)  # along the draws there is no such harm


def test_flattened_draws_of_unequal_scales_read_heavy() -> None:
    x = noise(2.0, 400, 900, generator(6))
    assert group_sum(x.flatten(), group_size=900).alpha.item() == pytest.approx(1.57, abs=0.1)


def test_undefined_where_sums_are_smaller_than_values() -> None:
    x = torch.tensor([1.0, -0.9]).repeat(50) * torch.linspace(1, 1.01, 100)
    estimate = group_sum(x)
    assert bool(estimate.alpha.isnan())
    assert bool(estimate.low.isnan())
    assert estimate.note == "1/α not positive in 1 of 1 series"
    assert group_sum(x, pooled=True).note == "1/α not positive"


def test_fewer_than_two_groups() -> None:
    estimate = group_sum(stable(1.5, (30,), generator(7)), group_size=20)
    assert bool(estimate.alpha.isnan())
    assert estimate.note == "1 of 1 series left out: fewer than 2 groups"


@pytest.mark.parametrize("group_size", [1, 0, -3])
def test_group_size_too_small(group_size: int) -> None:
    with pytest.raises(ValueError, match=f"group_sum needs group_size >= 2, got group_size={group_size}"):
        group_sum(torch.ones(30), group_size=group_size)
