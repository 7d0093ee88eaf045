"""The tail index from pairs of draws that are seen once: the laws of contrasts, the estimate, its interval."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_tailindex.functional import grouped_mle
from lightning_tailindex.functional._pairs import _CELLS, _EARLIER, _FIRST, _WIDTH, _log_probabilities, sharing
from lightning_tailindex.functional._tables import alpha_grid
from lightning_tailindex.functional.sequential import PairStream, SequentialFit, sequential_fit, sequential_of

from .samples import generator, noise, stable


def streamed(x: Tensor) -> PairStream:
    stream = PairStream(x.shape[1], torch.promote_types(x.dtype, torch.float32), x.device)
    for first, second in zip(x[::2], x[1::2], strict=False):
        stream.add(first, second)
    return stream


def fit(x: Tensor) -> SequentialFit:
    """With the effective number of coordinates as a measurement has it."""
    stream = streamed(x)
    effective = grouped_mle(x, pooled=True).effective_series.double()
    return sequential_fit(*stream.likelihood(), torch.tensor(x.shape[1]), effective)


def simulated(alpha: float, earlier: int) -> Tensor:
    """Shares of contrasts in each cell."""
    logs = stable(alpha, (200_000, earlier + 1), generator(earlier)).abs().log()
    contrast = logs[:, -1] - logs[:, :-1].mean(1)
    cell = ((contrast - _FIRST) / _WIDTH + 1).clamp(0, _CELLS - 1).long()
    return torch.bincount(cell, minlength=_CELLS) / len(cell)


@pytest.mark.parametrize("earlier", [1, 4, 32])
@pytest.mark.parametrize("node", [0, 30, 60, 72])
def test_contrasts_have_the_probabilities_of_the_table(node: int, earlier: int) -> None:
    shares, table = simulated(float(alpha_grid()[node]), earlier), _log_probabilities().exp()
    row = table[1 + _EARLIER.index(earlier)]
    error = ((row[:, node] * (1 - row[:, node])).clamp(min=1e-9) / 200_000).sqrt()
    assert ((shares - row[:, node]).abs() < 5 * error + 1.5e-5).all()
    other = row[:, node - 12 if node else 12]
    assert not ((shares - other).abs() < 5 * error + 1.5e-5).all()


def test_every_law_is_one() -> None:
    probabilities = _log_probabilities().exp()[1:]
    assert probabilities.shape == (len(_EARLIER), _CELLS, len(alpha_grid()))
    torch.testing.assert_close(probabilities.sum(1), torch.ones_like(probabilities[:, 0]), rtol=0, atol=1e-9)
    change = (probabilities[1:] - probabilities[:-1]).abs().sum(1).amax(1)
    assert bool((change[32:] < 0.01).all())  # between neighbours beyond 32, of which the nearest one is taken


@pytest.mark.parametrize("trouble", ["none", "shift", "zeros", "bfloat16"])
@pytest.mark.parametrize("alpha", [0.7, 1.2, 1.5, 1.8, 2.0])
def test_finds_the_truth_whatever_the_scales_and_centres(alpha: float, trouble: str) -> None:
    rng = generator(0)
    x = noise(alpha, 64, 3000, rng)
    x = x + 20 * torch.randn(3000, generator=rng, dtype=x.dtype) * (trouble == "shift")
    x = x * (torch.rand(x.shape, generator=rng) < (0.7 if trouble == "zeros" else 1))
    assert abs(sequential_of(x.bfloat16() if trouble == "bfloat16" else x.float()).alpha - alpha) < 0.03


def test_many_pairs_take_the_law_of_the_nearest_number() -> None:
    x = stable(1.5, (5000, 40), generator(1))
    assert abs(sequential_of(x).alpha - 1.5) < 0.01
    assert abs(sequential_of(stable(1.5, (5000, 40), generator(2)) ** 3).alpha - 1.5) > 0.5


@pytest.mark.parametrize("rank", [3, 20, None])
@pytest.mark.parametrize("alpha", [1.3, 1.8])
def test_the_interval_covers_although_coordinates_share_their_draws(alpha: float, rank: int | None) -> None:
    fits = [fit(noise(alpha, 64, 200, generator(i), rank)) for i in range(40)]
    covered = sum(bool((found.low <= alpha) & (alpha <= found.high)) for found in fits)
    assert covered >= 34
    assert all(bool((found.low <= found.alpha) & (found.alpha <= found.high)) for found in fits)
    widths = torch.stack([found.high - found.low for found in fits]).median()
    assert widths < 0.1 if rank is None else 0.4 < widths < 1.0  # a control: they do not cover by being endless


@pytest.mark.parametrize("alpha", [0.3, 1.4])
def test_scores_share_the_error_of_the_mean_of_earlier_logarithms(alpha: float) -> None:
    node = (alpha_grid() - alpha).abs().argmin()
    x = stable(float(alpha_grid()[node]), (100, 3000), generator(9))
    scores = []
    for series in x.split(10, dim=1):
        curves, _ = streamed(series).likelihood()
        scores.append(curves[1:, node + 1] - curves[1:, node - 1])
    each = torch.stack(scores)  # [300, 49], of 10 coordinates each
    factor = each.sum(1).var() / each.var(0).sum()
    assert factor == pytest.approx(sharing(node).item(), rel=0.3)
    assert (factor > 1.3) == (alpha < 0.7)  # a control: by no means 1


def test_the_interval_covers_where_contrasts_share_much() -> None:
    fits = [sequential_of(stable(0.4, (200, 20), generator(i))) for i in range(200)]
    covered = sum(bool((found.low <= 0.4) & (found.high >= 0.4)) for found in fits)
    assert covered >= 182
    assert torch.stack([found.high - found.low for found in fits]).median() < 0.06


def test_moments_are_those_of_the_logarithms_of_the_differences() -> None:
    x = stable(1.4, (41, 300), generator(3))
    stream, logs = streamed(x), (x[:40:2] - x[1::2]).abs().log()
    torch.testing.assert_close(stream.mean, logs.mean(0))
    torch.testing.assert_close(stream.squares / 19, logs.var(0))
    assert stream.count.tolist() == [20] * 300
    assert len(stream.curves) == 20
    assert stream.num_contrasts[0] == 0  # of the first pair nothing is earlier
    assert stream.num_contrasts[1] == 300


def test_a_coordinate_rests_where_a_draw_is_zero_and_tells_nothing_after_one_that_is_not_finite() -> None:
    x = stable(1.5, (40, 4), generator(4))
    x[6, 1] = x[9, 1] = 0
    x[20, 2], x[20, 3] = math.nan, math.inf
    stream = streamed(x)
    assert stream.count[:2].tolist() == [20, 18]
    assert stream.mean.isfinite().tolist() == [True, True, False, False]
    assert stream.num_contrasts[3] == 3
    assert stream.num_contrasts[11] == 2
    kept = [i for i in range(20) if i not in (3, 4)]
    logs = (x[::2, 1] - x[1::2, 1])[kept].abs().log()
    torch.testing.assert_close(stream.mean[1], logs.mean())


def test_parts_of_the_coordinates_add_up() -> None:
    x = noise(1.5, 64, 500, generator(5))
    whole, left, right = (streamed(part).likelihood()[0] for part in (x, x[:, :123], x[:, 123:]))
    torch.testing.assert_close(left + right, whole)


def test_coordinates_beyond_a_chunk_count_like_those_within() -> None:
    x = torch.randn(4, (1 << 18) + 5, generator=generator(6))
    stream, end = streamed(x), streamed(x[:, 1 << 18 :])
    assert torch.equal(stream.mean[1 << 18 :], end.mean)
    assert stream.num_contrasts[1] == (1 << 18) + 5


@pytest.mark.parametrize("draws", [0, 1, 2, 3])
def test_without_contrasts_there_is_no_estimate(draws: int) -> None:
    found = sequential_of(torch.randn(draws, 5, generator=generator(7)))
    assert all(bool(value.isnan()) for value in (found.alpha, found.low, found.high, found.gain))


@pytest.mark.parametrize(
    "x", [torch.zeros(20, 3), torch.full((20, 3), math.nan), torch.ones(20, 3), torch.zeros(20, 0)]
)
def test_nothing_usable_gives_nan(x: Tensor) -> None:
    found = sequential_of(x)
    assert all(bool(value.isnan()) for value in (found.alpha, found.low, found.high, found.gain))


def test_one_coordinate_is_enough() -> None:
    found = sequential_of(stable(1.5, (2000, 1), generator(8)))
    assert found.low < 1.5 < found.high
    assert found.high - found.low < 0.4
