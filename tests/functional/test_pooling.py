"""What a pooled tail index owes to its coordinates: nothing to their scales, their centres, their zeros."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from lightning_tailindex.functional import grouped_mle
from lightning_tailindex.functional.grouped_mle import pooled_groups
from lightning_tailindex.records import TailIndexEstimate

from .samples import generator, noise, stable

COORDINATES = 2000
HONEST = 0.03
FIELDS = ("alpha", "low", "high", "scale", "log_likelihood", "gain", "num_values", "zero_share", "effective_series")


def lognormal(shape: tuple[int, ...], rng: torch.Generator) -> Tensor:
    return (1.5 * torch.randn(shape, generator=rng, dtype=torch.float64)).exp()


def half_zeros(x: Tensor, rng: torch.Generator) -> Tensor:
    return x * (torch.rand(x.shape, generator=rng) >= 0.5)


def shifted(x: Tensor, rng: torch.Generator) -> Tensor:
    return x + 5 * x.abs().median(0).values * torch.randn(x.shape[1], generator=rng, dtype=x.dtype)


def in_pairs(x: Tensor, rng: torch.Generator) -> Tensor:
    return x[:, ::2].repeat_interleave(2, dim=1) * lognormal(x.shape[1:], rng)


TROUBLES: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {
    "none": lambda x, _: x,
    "half zeros": half_zeros,
    "shift": shifted,
    "bfloat16": lambda x, _: x.bfloat16(),
    "pairs": in_pairs,
}


@pytest.mark.parametrize("trouble", sorted(TROUBLES))
@pytest.mark.parametrize("alpha", [2.0, 1.8, 1.5])
@pytest.mark.parametrize("n", [20, 64, 200])
def test_pooling_is_honest(n: int, alpha: float, trouble: str) -> None:
    rng = generator(0)
    x = TROUBLES[trouble](stable(alpha, (n, COORDINATES), rng) * lognormal((COORDINATES,), rng), rng)
    assert abs(grouped_mle(x, pooled=True).alpha.item() - alpha) < HONEST


# A draw of a mixture of 500 sources is a common radius times nearly independent directions: 2000 coordinates tell what
# three tell, and the estimate of n draws scatters by 1.535 / sqrt(3 n), .2 at 20 draws. So the mean of 16 of them is
# within three times a quarter of that; the truth stays in the interval of each but a few.
@pytest.mark.parametrize("alpha", [2.0, 1.8, 1.5])
@pytest.mark.parametrize("n", [20, 64, 200])
def test_pooling_is_honest_where_coordinates_mix_the_same_sources(n: int, alpha: float) -> None:
    estimates = [grouped_mle(noise(alpha, n, COORDINATES, generator(i), 500), pooled=True) for i in range(16)]
    bias = torch.stack([estimate.alpha for estimate in estimates]).mean().item() - alpha
    assert abs(bias) < 0.01 + 3 * 1.535 / math.sqrt(3 * n * len(estimates))
    assert sum(bool(estimate.low <= alpha <= estimate.high) for estimate in estimates) >= 13


def test_pairs_narrow_the_interval_less_than_independent_coordinates_do() -> None:
    rng = generator(1)
    x = stable(1.5, (64, 400), rng)
    apart, paired = (grouped_mle(y, pooled=True) for y in (x, in_pairs(x, rng)))
    assert paired.effective_series < 0.75 * apart.effective_series
    assert paired.high - paired.low > apart.high - apart.low


@pytest.mark.parametrize("trouble", sorted(TROUBLES))
def test_the_note_is_empty_and_the_scales_are_those_of_the_coordinates(trouble: str) -> None:
    rng = generator(2)
    scales = lognormal((COORDINATES,), rng)
    x = TROUBLES[trouble](stable(1.5, (200, COORDINATES), rng), rng)
    plain, scaled = grouped_mle(x.double(), pooled=True), grouped_mle(x.double() * scales, pooled=True)
    assert plain.note == scaled.note == ""
    torch.testing.assert_close(scaled.scale / scales, plain.scale, rtol=1e-3, atol=0)
    assert abs(scaled.alpha - plain.alpha) < 1e-3


@pytest.mark.parametrize(("n", "reading"), [(20, 1.95), (64, 1.99)])
def test_dividing_by_each_median_and_flattening_reads_gaussian_noise_as_heavy(n: int, reading: float) -> None:
    rng = generator(3)
    x = stable(2.0, (n, COORDINATES), rng) * lognormal((COORDINATES,), rng)
    flat = (x / x.abs().median(0).values).flatten()
    assert grouped_mle(flat, center="none").alpha < reading
    assert grouped_mle(x, pooled=True).alpha > 1.995


def assert_same(a: TailIndexEstimate, b: TailIndexEstimate, fields: tuple[str, ...] = FIELDS) -> None:
    for name in fields:
        one, other = getattr(a, name).double(), getattr(b, name).double()
        # Likelihoods of few draws are summed up in single precision, and an end of an interval magnifies that.
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3, equal_nan=True)
    assert a.note == b.note


def ragged(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    rng = generator(4)
    sizes = [(64, 1), (20, 300), (64, 7), (200, 40), (20, 2, 3), (64, 130), (64, 0), (33,), (20, 5)]
    samples = [3 * stable(1.2 + 0.1 * i, size, rng).to(dtype) for i, size in enumerate(sizes)]
    samples[2][:, 0] = math.nan
    samples[3][:30, 1:] = 0
    samples[-1][:] = 0
    return samples


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("center", ["median", "none"])
def test_pooling_groups_together_equals_pooling_one_after_the_other(dtype: torch.dtype, center: str) -> None:
    samples = ragged(dtype)
    for x, together in zip(samples, pooled_groups(samples, center=center), strict=True):
        alone = grouped_mle(x, pooled=True, center=center)
        assert_same(together, alone)
        assert together.scale.shape == x.shape[1:]
        assert together.alpha.shape == ()
        assert together.alpha.dtype == torch.promote_types(dtype, torch.float32)


def test_the_order_of_the_groups_does_not_matter() -> None:
    samples = ragged()
    for one, other in zip(pooled_groups(samples), pooled_groups(samples[::-1])[::-1], strict=True):
        assert_same(one, other)


def test_a_group_does_not_know_of_a_bad_one() -> None:
    x, y = noise(1.5, 64, 50, generator(5)), noise(1.8, 64, 20, generator(6))
    alone = pooled_groups([x])[0]
    for bad in (torch.full_like(y, math.nan), torch.zeros_like(y), 1e200 * y):
        assert_same(pooled_groups([bad, x, bad])[1], alone)


def test_without_intervals_the_ends_are_nan_and_all_else_is_the_same() -> None:
    samples = ragged()
    kept = tuple(name for name in FIELDS if name not in ("low", "high", "effective_series"))
    for full, bare in zip(
        pooled_groups(samples), pooled_groups(samples, intervals=[False] * len(samples)), strict=True
    ):
        assert_same(full, bare, kept)
        assert bool(bare.low.isnan() & bare.high.isnan() & bare.effective_series.isnan())
        assert full.low.isnan() == full.alpha.isnan()


@pytest.mark.parametrize("n", [16, 64, 128])
def test_copies_of_a_coordinate_have_its_interval(n: int) -> None:
    x = stable(2.0, (n, 60), generator(7))
    highs = [[grouped_mle(y, pooled=True).high for y in (one, one.expand(n, 300))] for one in x.split(1, dim=1)]
    one, copies = torch.tensor(highs).T
    assert torch.equal(one == 2, copies == 2)
    assert bool((one == 2).any())


@pytest.mark.parametrize("alpha", [2.0, 1.5])
@pytest.mark.parametrize("scattered", [0.0, 0.1])
def test_draws_of_nothing_but_zeros_change_nothing(alpha: float, scattered: float) -> None:
    rng = generator(8)
    x = stable(alpha, (64, 400), rng) * (torch.rand(64, 400, generator=rng) >= scattered)
    for rows in (1, 30):
        nothing = torch.zeros(rows, 400, dtype=x.dtype)
        with_them, without = (grouped_mle(y, pooled=True) for y in (torch.cat([nothing, x]), x))
        assert_same(with_them, without, tuple(name for name in FIELDS if name != "zero_share"))
        assert without.effective_series > 200  # so that there is something to lose


def test_no_groups() -> None:
    assert pooled_groups([]) == []


def test_errors() -> None:
    with pytest.raises(TypeError, match=r"grouped_mle needs real floating point values, got torch\.int64"):
        pooled_groups([torch.ones(9, 2), torch.ones(9, 2, dtype=torch.int64)])
    with pytest.raises(ValueError, match=r"grouped_mle needs at least one draw along dim 0, got shape \(0, 2\)"):
        pooled_groups([torch.ones(0, 2)])


@pytest.mark.parametrize("num_odd", [1, 9, 11])
def test_a_few_series_of_two_sizes_do_not_pull_the_others_down(num_odd: int) -> None:
    """Their scale lies far from their rough unit, and a grid that is too narrow for it costs without a bound."""
    x = torch.randn(64, 1000, generator=generator(0))
    x[:35, :num_odd] *= 1e-4
    found = grouped_mle(x, pooled=True)
    assert found.alpha == pytest.approx(2, abs=2e-3)
    assert found.high == 2
    assert found.low > 1.99


def test_where_most_differ_the_maximum_is_that_of_all() -> None:
    """A loss that counts up to a limit only is smallest elsewhere."""
    rng = generator(6)
    x = torch.randn(1000, 40, generator=rng, dtype=torch.float64)
    x[:398, :25] *= 0.01
    x[:, 12:25][torch.rand(1000, 13, generator=rng) < 0.9] = 0
    found = grouped_mle(x, pooled=True)
    assert found.alpha == pytest.approx(1.745, abs=5e-3)
    assert found.log_likelihood > -88066


def test_series_of_two_sizes_may_be_many() -> None:
    """What one of them loses counts up to a limit only: scales that are too narrow cost without one."""
    x = torch.randn(64, 1000, generator=generator(0))
    x[:35, :150] *= 1e-4
    assert grouped_mle(x, pooled=True).alpha == pytest.approx(1.958, abs=5e-3)


def test_series_of_another_length_count_at_the_maximum_of_their_group() -> None:
    """Beside other groups they are looked at by themselves, far from where they alone would be likeliest."""
    rng = generator(0)
    gaussian, heavy = torch.randn(64, 1024, generator=rng, dtype=torch.float64), stable(0.3, (64, 724), rng)
    heavy = torch.where(torch.rand(heavy.shape, generator=rng) < 0.7, 0.0, heavy)
    group = torch.cat([gaussian[:, :924], heavy[:, :100]], dim=1)
    others = [torch.cat([gaussian[:, :300], heavy], dim=1)] * 5
    found, alone = pooled_groups([group, *others])[0], grouped_mle(group, pooled=True)
    for field in ("alpha", "low", "high", "log_likelihood"):
        torch.testing.assert_close(getattr(found, field), getattr(alone, field), rtol=1e-5, atol=1e-4)
