"""Tails of absolute values: where they begin, how fast they decay, and how far they are from a power law."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ._scan import cumulative_sum

_CHUNK = 1 << 22  # values that are compared at once: what bounds the memory
_PROBES = 96  # values of a tail that bound its distance from below
_ROUND = 16  # thresholds a series that are compared in full before the best so far is updated
_TIES = 64  # machine epsilons: logarithms of ties differ on average from their threshold's by no more


@dataclass(frozen=True)
class Sizes:
    """Absolute values of each series in ascending order; exact zeros come first and belong to no tail.

    A tail starts at a place, a position in this order; ``skip`` is 1 where the value there is a threshold that the
    values of the tail exceed, 0 where it is the first of them.

    Attributes:
        size: The values, shape [n, series].
        unit: Logarithm of the middle non-zero value, of which the others are multiples, shape [series].
        log: Logarithm in that unit, 0 where the value is 0, shape [n, series].
        above: Sum of the logarithms from each position on, shape [n, series].
        first: Position of the first value that is as large, shape [n, series].
        num_values: Non-zero values, shape [series].
    """

    size: Tensor
    unit: Tensor
    log: Tensor
    above: Tensor
    first: Tensor
    num_values: Tensor

    def __getitem__(self, series: Tensor | slice) -> Sizes:
        """The sizes of some of the series."""
        size, log, above, first = (value[:, series] for value in (self.size, self.log, self.above, self.first))
        return Sizes(size, self.unit[series], log, above, first, self.num_values[series])

    def inverse(self, place: Tensor, skip: int) -> Tensor:
        """1/alpha of the tails that start at some places, both of shape [places, series]."""
        number, start = len(self.log) - place, self.log.gather(0, place)
        total = self.above.gather(0, place) - number * start
        return without_ties(total, number, start) / (number - skip)

    def threshold(self, place: Tensor) -> Tensor:
        """The value at one place of each series, shape [series]."""
        return self.size.gather(0, place[None])[0]


def without_ties(total: Tensor, number: Tensor, start: Tensor) -> Tensor:
    """Sums of so many logarithms over where they start, 0 where only rounding is left: ties have no tail at all."""
    rounding = _TIES * torch.finfo(total.dtype).eps * (1 + start.abs())
    return torch.where(total > number * rounding, total, 0.0)


def sort_sizes(x: Tensor) -> Sizes:
    """Sorts the absolute values of finite series, shape [n, series]."""
    size = x.abs().sort(0).values
    num_values = (size > 0).sum(0)
    middle = (len(size) - num_values + num_values // 2).clamp(max=len(size) - 1)
    raw = torch.where(size > 0, size, 1.0).log()
    unit = raw.gather(0, middle[None])[0]
    log = torch.where(size > 0, raw - unit, 0.0)
    place = torch.arange(len(size), device=x.device)[:, None].expand_as(size)
    starts = torch.cat([torch.ones_like(size[:1], dtype=torch.bool), size[1:] != size[:-1]])
    first = torch.where(starts, place, 0).cummax(0).values
    return Sizes(size, unit, log, cumulative_sum(log.flip(0)).flip(0), first, num_values)


def distance(sizes: Sizes, place: Tensor, skip: int, probes: int | None = None) -> Tensor:
    """Kolmogorov-Smirnov distance of tails to the power laws fitted to them, shape [places, series].

    As Clauset, Shalizi and Newman do, the empirical distribution is taken just below each value. With ``probes``,
    only that many values of each tail are compared, so the result is a lower bound.
    """
    n, out = len(sizes.log), torch.empty_like(place, dtype=sizes.log.dtype)
    for rows, columns in _chunks(place.shape, probes or n):
        out[rows, columns] = _distance(sizes[columns], place[rows, columns], skip, probes)
    return out


def _chunks(shape: torch.Size, depth: int) -> Iterator[tuple[slice, slice]]:
    """Slices of an array, each of which times ``depth`` fits into memory."""
    width = max(1, min(shape[1], _CHUNK // depth))
    height = max(1, _CHUNK // (depth * width))
    for i in range(0, shape[0], height):
        for j in range(0, shape[1], width):
            yield slice(i, i + height), slice(j, j + width)


def _distance(sizes: Sizes, place: Tensor, skip: int, probes: int | None) -> Tensor:
    n, lowest = len(sizes.log), place + skip
    number = n - lowest
    if probes is None:
        start = int(lowest.min())
        log, first = sizes.log[start:, None], sizes.first[start:, None]
        within = torch.arange(start, n, device=place.device)[:, None, None] >= lowest
    else:
        share = torch.linspace(0, 1, probes, device=place.device, dtype=sizes.log.dtype)[:, None, None]
        at = (lowest + (share * (number - 1)).long()).clamp(max=n - 1).flatten(0, 1)
        log, first = (value.gather(0, at).reshape(probes, *place.shape) for value in (sizes.log, sizes.first))
        within = torch.ones_like(log, dtype=torch.bool)
    excess = (log - sizes.log.gather(0, place)) / sizes.inverse(place, skip)
    below = (first - lowest).clamp(min=0).to(excess) / number  # two integers would give the default dtype
    gap = 1 - (-excess).exp() - below
    return torch.where(within, gap.abs(), 0.0).amax(0)


def candidates_few(sizes: Sizes, smallest: int, number: int) -> Tensor:
    """Places of thresholds whose numbers of exceedances are equally spaced in the logarithm, up to half the values."""
    largest = (sizes.num_values // 2).clamp(min=1).to(sizes.log)
    lowest = largest.clamp(max=smallest)
    share = torch.linspace(0, 1, number, device=largest.device, dtype=largest.dtype)[:, None]
    exceedances = (lowest.log() + share * (largest / lowest).log()).exp().round().long()
    return (len(sizes.log) - 1 - exceedances).clamp(min=0)


def closest(sizes: Sizes, place: Tensor) -> Tensor:
    """The place, of those offered, beyond which each series is closest to a power law, shape [series]."""
    far = torch.where(sizes.inverse(place, 1) > 0, distance(sizes, place, 1), torch.inf)
    return place.gather(0, far.argmin(0)[None])[0]


def closest_of_all(sizes: Sizes) -> Tensor:
    """The place of the distinct value from which on each series is closest to a power law, shape [series].

    All but the largest value are candidates, and all are compared, but not all in full: a few values of a tail
    bound its distance from below, and tails with a bound above the best distance so far cannot be better.
    """
    n = len(sizes.log)
    place = torch.arange(n, device=sizes.log.device)[:, None].expand_as(sizes.log)
    fit = (place == sizes.first) & (place >= n - sizes.num_values) & (sizes.inverse(place, 0) > 0)
    bound = torch.where(fit, distance(sizes, place, 0, _PROBES), torch.inf)
    bound, order = bound.sort(0)
    best = torch.full_like(bound[0], torch.inf)
    chosen = order[0].clone()
    for start in range(0, n, _ROUND):
        open_ = (bound[start] <= best).nonzero()[:, 0]
        if len(open_) == 0:
            break
        tried = order[start : start + _ROUND, open_]
        far = torch.where(bound[start : start + _ROUND, open_].isinf(), torch.inf, distance(sizes[open_], tried, 0))
        near = far.amin(0)
        # Of equally good values the smallest is taken.
        winner = torch.where(far == near, tried, n).amin(0)
        better = (near < best[open_]) | ((near == best[open_]) & (winner < chosen[open_]))
        chosen[open_] = torch.where(better, winner, chosen[open_])
        best[open_] = torch.minimum(near, best[open_])
    return chosen
