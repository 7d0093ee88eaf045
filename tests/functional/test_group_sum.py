from __future__ import annotations

import math
from typing import Any

import numpy as np
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


# Root mean square error of alpha over the Cramer-Rao bound at n = 1000, group_size 4, 20 permutations.
EFFICIENCY = [(1.1, 1.219, 1.12), (1.3, 1.418, 1.18), (1.5, 1.535, 1.30), (1.7, 1.502, 1.54)]


@pytest.mark.parametrize(("alpha", "bound", "ratio"), EFFICIENCY)
def test_permutations_are_efficient(alpha: float, bound: float, ratio: float) -> None:
    x = stable(alpha, (1000, 600), generator(8))
    estimates = group_sum(x, group_size=4, permutations=20)
    error = (estimates.alpha - alpha).square().mean().sqrt() / bound * math.sqrt(1000)
    assert error.item() == pytest.approx(ratio, abs=0.12)
    assert (group_sum(x).alpha - alpha).square().mean().sqrt() / bound * math.sqrt(1000) > 1.5 * error


@pytest.mark.parametrize(
    "options",
    [
        {"group_size": 4, "permutations": 20},
        {"group_size": 4, "permutations": 1},
        {"group_size": 30, "permutations": 10},
        {"group_size": (2, 4, 8), "permutations": 10},
    ],
)
def test_interval_of_permutations_covers(options: dict[str, Any]) -> None:
    estimates = group_sum(stable(1.5, (900, 800), generator(9)), **options)
    # 800 series scatter by .009; groups of 30 cover in .926 of cases, their number being small
    assert 0.90 < ((estimates.low < 1.5) & (estimates.high > 1.5)).double().mean() < 0.985


@pytest.mark.parametrize("rank", [None, 3])
def test_pooled_interval_of_permutations_covers(rank: int | None) -> None:
    samples = [noise(1.5, 144, 40, generator(100 + i), rank) for i in range(100)]
    estimates = [group_sum(x, group_size=4, permutations=10, pooled=True) for x in samples]
    assert 88 <= sum(bool(e.low < 1.5 < e.high) for e in estimates) <= 100
    effective = torch.stack([e.effective_series for e in estimates]).median()
    assert effective < 6 if rank else effective > 20


def test_permutations_equal_an_obvious_loop() -> None:
    x = stable(1.3, (48, 3), generator(10))
    orders = generator(11)
    wanted = []
    for _ in range(5):
        order = torch.randperm(48, generator=orders)
        wanted.append([1 / slow(series[order], 6) for series in x.T])
    estimate = group_sum(x, group_size=6, permutations=5, generator=generator(11))
    assert (1 / estimate.alpha).tolist() == pytest.approx(torch.tensor(wanted).double().mean(0).tolist(), rel=1e-6)
    again = group_sum(x, group_size=6, permutations=5, generator=generator(12))
    assert not torch.allclose(estimate.alpha, again.alpha)


def test_permutations_are_the_same_each_time_and_leave_the_global_generator_alone() -> None:
    x, state = stable(1.3, (48, 3), generator(13)), torch.get_rng_state()
    first, second = (group_sum(x, permutations=5) for _ in range(2))
    assert torch.equal(first.alpha, second.alpha)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("sizes", [[2, 5, 10], [4, 2, 20, 10]])
def test_several_sizes_give_the_median(sizes: list[int]) -> None:
    x = stable(1.5, (400, 20), generator(14))
    each = np.array([group_sum(x, group_size=size).alpha.numpy() for size in sizes])
    assert group_sum(x, group_size=sizes).alpha.numpy() == pytest.approx(np.median(each, axis=0))
    pooled = [group_sum(x, group_size=size, pooled=True).alpha.item() for size in sizes]
    assert group_sum(x, group_size=sizes, pooled=True).alpha.item() == pytest.approx(np.median(pooled))


def jointly_stable(alpha: float, draws: int, rng: torch.Generator) -> Tensor:
    """Gaussian vectors of unequal, dependent coordinates times one positive stable variable each."""
    mixing = torch.randn(5, 20, generator=rng, dtype=torch.float64) * torch.linspace(-3, 3, 20).exp()
    gaussian = torch.randn(draws, 5, generator=rng, dtype=torch.float64) @ mixing
    if alpha == 2:
        return gaussian
    u = math.pi * torch.rand(draws, 1, generator=rng, dtype=torch.float64)
    w = torch.empty(draws, 1, dtype=torch.float64).exponential_(generator=rng)
    a = alpha / 2  # Kanter's formula for E exp(-s A) = exp(-s^a)
    positive = (a * u).sin() / u.sin() ** (1 / a) * (((1 - a) * u).sin() / w) ** ((1 - a) / a)
    return positive.sqrt() * gaussian


@pytest.mark.parametrize("alpha", [1.2, 1.6, 2.0])
def test_norms_of_jointly_stable_vectors_read_their_index(alpha: float) -> None:
    x = jointly_stable(alpha, 10000, generator(15))
    estimate = group_sum(x, group_size=4, permutations=20, vectors=True)
    assert estimate.alpha.shape == ()
    assert estimate.alpha.item() == pytest.approx(alpha, abs=0.07)
    assert bool(estimate.low < alpha < estimate.high)
    # The control: the coordinates of a draw, put one after the other, are no independent draws of one law.
    assert abs(group_sum(x.flatten(), group_size=20).alpha.item() - alpha) > 0.2


def test_differences_of_rows_of_unknown_location() -> None:
    x = jointly_stable(1.5, 10000, generator(16)) + 100
    options: dict[str, Any] = {"group_size": 4, "permutations": 20, "vectors": True}
    assert group_sum(x[::2] - x[1::2], **options).alpha.item() == pytest.approx(1.5, abs=0.1)
    assert group_sum(x, **options).alpha.item() < 1.3


def test_vectors_of_one_coordinate_are_numbers() -> None:
    x = stable(1.5, (100, 4), generator(17))
    plain, vectors = group_sum(x), group_sum(x[..., None], vectors=True)
    assert torch.equal(plain.alpha, vectors.alpha)
    assert torch.allclose(plain.scale, group_sum(torch.stack([x, 0 * x], -1), vectors=True).scale)


@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_squares_of_vectors_neither_underflow_nor_overflow(factor: float) -> None:
    x = torch.randn(100, 2, 7, generator=generator(18))
    plain, scaled = group_sum(x, vectors=True), group_sum(factor * x, vectors=True)
    assert torch.allclose(plain.alpha, scaled.alpha, rtol=1e-4)
    assert torch.allclose(factor * plain.scale, scaled.scale, rtol=1e-4)


def test_bad_vectors() -> None:
    x = torch.randn(64, 3, 2, generator=generator(19))
    x[5, 0, 1] = math.nan
    x[:, 1] = 0
    estimate = group_sum(x, vectors=True)
    assert estimate.alpha.isnan().tolist() == [True, True, False]
    assert "1 of 3 series left out: NaN or infinite values; 1 of 3 series left out: constant" in estimate.note
    with pytest.raises(ValueError, match=r"group_sum needs a last dimension that holds the vectors, got shape \(64,\)"):
        group_sum(torch.ones(64), vectors=True)
    with pytest.raises(ValueError, match="group_sum needs a whole number permutations >= 0, got permutations=-1"):
        group_sum(torch.ones(64), permutations=-1)
    with pytest.raises(ValueError, match=r"needs a whole number permutations >= 0, got permutations=2\.0"):
        group_sum(torch.ones(64), permutations=2.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("group_size", [1, 0, -3])
def test_group_size_too_small(group_size: int) -> None:
    with pytest.raises(ValueError, match=f"group_sum needs group_size >= 2, got group_size={group_size}"):
        group_sum(torch.ones(30), group_size=group_size)
    with pytest.raises(ValueError, match=rf"group_sum needs group_size >= 2, got group_size=\[4, {group_size}\]"):
        group_sum(torch.ones(30), group_size=[4, group_size])
    with pytest.raises(ValueError, match=r"group_sum needs group_size >= 2, got group_size=\[\]"):
        group_sum(torch.ones(30), group_size=[])


def test_sums_that_would_overflow() -> None:
    x = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    found, expected = group_sum(x / x.abs().max() * 3.3e38), group_sum(x)
    assert torch.allclose(found.alpha, expected.alpha, rtol=1e-4)
    assert torch.allclose(found.scale / 3.3e38 * x.abs().max(), expected.scale, rtol=1e-4)


def test_group_sizes_are_integers_of_any_kind() -> None:
    x = torch.randn(400, generator=torch.Generator().manual_seed(0))
    assert group_sum(x, group_size=np.int64(4)).alpha == group_sum(x, group_size=4).alpha
    with pytest.raises(ValueError, match=r"group_sum needs group_size >= 2, got group_size=4\.0"):
        group_sum(x, group_size=4.0)  # type: ignore[arg-type]
