"""Groups of series that share their draws: counted, and searched coarsely for one tail index each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from ._counts import Cells, Center, count_values
from ._grid import FEWEST_TOGETHER, Grid, by_length, every
from ._likelihood import LARGEST_EDGE, Likelihood, as_weights, likelihood
from ._series import Series, sums_of_groups

COARSE = every(4)
_EDGE, _OWN_EDGE = 1e-2, 0.1  # of a group's series on average, and of one of them
_NEAR, _MOST_LOST = 1.5, 8.0  # nats a series on average, and the most that one counts for: its scales may be too narrow


@dataclass(frozen=True)
class Reach:
    """How far down a search looks at first: tail indices of noise are rarely below.

    Attributes:
        first: The first of the coarse nodes.
        fall: What the curve has to have lost there, in nats a series; all nodes are evaluated where it has not.
    """

    first: int
    fall: float


INTERVAL = Reach(7, 2.0)  # 0.63: the interval ends before, even where all series tell the same
MAXIMUM = Reach(12, 0.5)  # 1.30: so does the surroundings of the maximum
ALTERNATIVES = Reach(16, -math.inf)  # 1.89, 1.97 and 2, and no others: for ratios against the Gaussian


@dataclass(frozen=True)
class Search:
    """A coarse search for one tail index for each group.

    Attributes:
        classes: The usable series by their lengths, with scales that are wide enough.
        curve: Coarse log-likelihoods, shape [nodes, groups]; minus infinity where they are too low to matter.
        num_series: Usable series, shape [groups].
        num_values: Values in them, shape [groups].
        wider_at_two: Whether the scales are not wide enough for the Gaussian, shape [groups].
    """

    classes: tuple[Series, ...]
    curve: Tensor
    num_series: Tensor
    num_values: Tensor
    wider_at_two: Tensor

    @property
    def gaussian_ratios(self) -> Tensor:
        """Twice the logarithm of the likelihood at the better of two alternatives over that at 2, shape [groups]."""
        curve = self.curve[ALTERNATIVES.first :]
        return 2 * (curve[:-1].amax(0) - curve[-1])

    @property
    def filled(self) -> Tensor:
        """Which groups have a usable series, shape [groups]."""
        return self.num_series > 0


@dataclass(frozen=True)
class Groups:
    """Groups of series, counted and searched once for all that is asked of them.

    Attributes:
        x: The values, group after group, shape [n, series].
        cells: Their counts.
        sizes: Number of series in each group.
        search: The coarse search.
    """

    x: Tensor
    cells: Cells
    sizes: tuple[int, ...]
    search: Search

    @classmethod
    def of(
        cls,
        x: Tensor,
        sizes: Sequence[int],
        center: Center,
        per_octave: int,
        *,
        keep_index: bool = False,
        reach: Reach = INTERVAL,
    ) -> Groups:
        """Counts and searches values [n, series], group after group."""
        cells = count_values(x, center, per_octave, keep_index=keep_index)
        return cls(x, cells, tuple(sizes), search(cells, sizes, per_octave, reach))

    def first(self, number: int) -> Groups:
        """Only so many of the groups."""
        own, groups = slice(sum(self.sizes[:number])), torch.arange(len(self.sizes), device=self.x.device) < number
        found = Search(
            tuple(series.of(groups) for series in self.search.classes),
            self.search.curve[:, :number],
            self.search.num_series[:number],
            self.search.num_values[:number],
            self.search.wider_at_two[:number],
        )
        return Groups(self.x[:, own], self.cells.of(own), self.sizes[:number], found)

    def own(self) -> list[slice]:
        """Where the series of each group are."""
        return [slice(first, last) for first, last in pairwise(accumulate(self.sizes, initial=0))]


def parts(
    counts: Tensor, series: Series, num_groups: int
) -> Iterator[tuple[Series, Tensor, Callable[[Tensor], Tensor]]]:
    """Some series at a time, their counts, and what sums values [..., series] up over each group."""
    for some in series.in_chunks():
        weights = as_weights(counts, some.index, some.grid)
        sizes = some.group.bincount(minlength=num_groups)
        yield some, weights, partial(sums_of_groups, sizes=sizes)


def marginal(part: Likelihood, grid: Grid) -> Tensor:
    """Log-likelihood with the scale integrated out, shape [nodes, series]."""
    return part.marginal + grid.log_spacing(part.mass)[:, None]


def search(cells: Cells, sizes: Sequence[int], per_octave: int, reach: Reach = INTERVAL) -> Search:
    """Evaluates coarsely spaced nodes for the usable series of each group, on scales that are wide enough."""
    counts, num_groups = cells.counts, len(sizes)
    group = torch.from_numpy(np.repeat(np.arange(num_groups), sizes)).to(counts.device)
    usable = cells.usable.nonzero()[:, 0]
    nodes = COARSE[reach.first :]
    classes = [Series(i, group[i], grid.over(nodes)) for i, grid in by_length(cells, per_octave, FEWEST_TOGETHER)]
    curve, edge, wide = _settled(counts, classes, nodes, num_groups)
    size = group[usable].bincount(minlength=num_groups)
    short = (curve[0] > curve.amax(0) - reach.fall * size) & (size > 0)
    curve = torch.nn.functional.pad(curve, (0, 0, reach.first, 0), value=-math.inf)
    if bool(short.any()):
        again = [replace(series.of(short), grid=series.grid.over(COARSE)) for series in wide]
        rest = (series.of(~short) for series in wide)
        whole, _, wider = _settled(counts, again, COARSE, num_groups)
        curve[:, short], wide = whole[:, short], [series for series in (*rest, *wider) if len(series.index) > 0]
    num_values = sums_of_groups(cells.num_values[usable], size)
    return Search(tuple(wide), curve, size, num_values, edge > LARGEST_EDGE * size)


@dataclass(frozen=True)
class _Chunk:
    """Series whose likelihood was computed together.

    Attributes:
        group: Their groups, shape [series].
        sizes: How many of them are of each group, shape [groups].
        value: Log-likelihood with the scale integrated out, shape [nodes, series].
        edge: Share of the outermost two scales, shape [nodes, series].
    """

    group: Tensor
    sizes: Tensor
    value: Tensor
    edge: Tensor

    def only(self, chosen: Tensor) -> _Chunk:
        """Those that a mask of shape [series] tells."""
        kept = chosen.nonzero()[:, 0]
        group = self.group.index_select(0, kept)
        value, edge = (own.index_select(1, kept) for own in (self.value, self.edge))
        return _Chunk(group, group.bincount(minlength=len(self.sizes)), value, edge)


def _settled(
    counts: Tensor, classes: list[Series], nodes: range, num_groups: int
) -> tuple[Tensor, Tensor, list[Series]]:
    """Curves at some nodes, [nodes, groups], edges at the last one, and the series with scales that are wide enough."""
    curve = counts.new_zeros(len(nodes), num_groups, dtype=torch.float64)
    at_two = curve[0].clone()
    wide: list[Series] = []
    todo = [(series, curve > 0) for series in classes if len(series.index) > 0]
    while todo:
        series, near = todo.pop(0)
        chunks = list(_coarse(counts, series, num_groups))
        near = near | _near(chunks)
        leaves = _leaving(chunks, near)
        if bool(leaves.any()) and not series.grid.is_widest:
            todo.append((replace(series.only(leaves), grid=series.grid.widened()), near))
            stays = leaves.logical_not()
            own = torch.split(stays, [len(chunk.group) for chunk in chunks])
            series, chunks = series.only(stays), [chunk.only(some) for chunk, some in zip(chunks, own, strict=True)]
        if len(series.index) > 0:
            curve += _summed(chunks, lambda chunk: chunk.value)
            at_two += _summed(chunks, lambda chunk: chunk.edge[-1])
            wide.append(series)
    return curve, at_two, wide


def _coarse(counts: Tensor, series: Series, num_groups: int) -> Iterator[_Chunk]:
    """Evaluates the nodes of the grid of some series."""
    for some in series.in_chunks():
        part = likelihood(as_weights(counts, some.index, some.grid), some.grid)
        yield _Chunk(some.group, some.group.bincount(minlength=num_groups), marginal(part, some.grid), part.edge)


def _summed(chunks: list[_Chunk], what: Callable[[_Chunk], Tensor]) -> Tensor:
    """Sums what chunks have, [..., series], up over each group, [..., groups]."""
    first, *others = (sums_of_groups(what(chunk), chunk.sizes) for chunk in chunks)
    return sum(others, start=first)


def _near(chunks: list[_Chunk]) -> Tensor:
    """Which nodes are near the groups' maxima, [nodes, groups]: the interval ends there, whatever the series share."""
    lost = _summed(chunks, lambda chunk: (chunk.value.amax(0) - chunk.value).clamp(max=_MOST_LOST))
    return lost <= lost.amin(0) + _NEAR * sum(chunk.sizes for chunk in chunks)


def _leaving(chunks: list[_Chunk], near: Tensor) -> Tensor:
    """Which series leave the grid at nodes near the maxima, shape [series]: those of a whole group, or one by one."""
    size = sum(chunk.sizes for chunk in chunks)
    together = (_summed(chunks, lambda chunk: chunk.edge) * near > _EDGE * size).any(0)
    own = (((chunk.edge > _OWN_EDGE) & near[:, chunk.group]).any(0) | together[chunk.group] for chunk in chunks)
    return torch.cat(list(own))
