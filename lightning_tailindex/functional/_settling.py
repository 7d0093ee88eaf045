"""Coarse curves of groups of series, on scales that are widened until they are wide enough for each series."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, reduce

import torch
from torch import Tensor

from ._likelihood import as_weights, likelihood
from ._series import Series, marginal, sums_of_groups

__all__ = ["settled"]

_EDGE, _OWN_EDGE = 1e-2, 0.1  # of a group's series on average, and of one of them
_NEAR, _MOST_LOST = 1.5, 8.0  # nats a series on average, and the most that one counts for: its scales may be too narrow


@dataclass(frozen=True)
class _Chunk:
    """Series whose likelihood was computed together.

    Attributes:
        group: Their groups, shape [series].
        value: Log-likelihood with the scale integrated out, shape [nodes, series].
        edge: Share of the outermost two scales, shape [nodes, series].
    """

    group: Tensor
    value: Tensor
    edge: Tensor

    def sums(self, num_groups: int) -> Tensor:
        """Sums over each group of ``value``, of what series lost of its maximum, and ``edge``, [3, nodes, groups]."""
        lost = (self.value.amax(0) - self.value).clamp(max=_MOST_LOST)
        return sums_of_groups(torch.stack([self.value, lost, self.edge]), self.group.bincount(minlength=num_groups))

    def only(self, chosen: Tensor) -> _Chunk:
        """Those that a mask of shape [series] tells."""
        kept = chosen.nonzero()[:, 0]
        return _Chunk(self.group[kept], self.value.index_select(1, kept), self.edge.index_select(1, kept))


@dataclass(frozen=True)
class _Looked:
    """Series on scales of one grid, of some of so many groups, and what was found there."""

    series: Series
    num_groups: int
    chunks: tuple[_Chunk, ...]

    @cached_property
    def sums(self) -> Tensor:
        """Sums of the chunks, kept for all of them only: with many groups those of one take as much as its series."""
        return reduce(torch.add, (chunk.sums(self.num_groups) for chunk in self.chunks))

    @classmethod
    def at(cls, counts: Tensor, series: Series, num_groups: int) -> _Looked:
        """Evaluates the nodes of the grid."""
        return cls(series, num_groups, tuple(_coarse(counts, series)))

    def leaving(self, near: Tensor) -> Tensor:
        """Which series leave the grid at nodes near the maxima, of a whole group or one by one, shape [series]."""
        size = self.series.group.bincount(minlength=self.num_groups)
        together = (self.sums[2] * near > _EDGE * size).any(0)
        own = [((c.edge > _OWN_EDGE) & near[:, c.group]).any(0) | together[c.group] for c in self.chunks]
        return torch.cat(own)

    def only(self, chosen: Tensor) -> _Looked:
        """Those series that a mask of shape [series] tells."""
        own = torch.split(chosen, [len(chunk.group) for chunk in self.chunks])
        kept = (chunk.only(some) for chunk, some in zip(self.chunks, own, strict=True))
        return replace(
            self, series=self.series.only(chosen), chunks=tuple(chunk for chunk in kept if len(chunk.group) > 0)
        )


def settled(
    counts: Tensor, classes: Iterable[Series], nodes: range, num_groups: int
) -> tuple[Tensor, Tensor, list[Series]]:
    """Widens the scales of series until they are wide enough where the likelihood of their group is high.

    Args:
        counts: Counts of all series, shape [series, cells].
        classes: The series, with the scales to begin with.
        nodes: The nodes of their grids.
        num_groups: Number of groups.

    Returns:
        Curves at the nodes, [nodes, groups], the sums of what the outermost scales share at the last node, [groups],
        and the series with scales that are wide enough.
    """
    done: list[_Looked] = []
    todo = [series for series in classes if len(series.index) > 0]
    sums = counts.new_zeros(3, len(nodes), num_groups, dtype=torch.float64)
    sizes = (series.group.bincount(minlength=num_groups) for series in todo)
    size = sum(sizes, start=torch.zeros(num_groups, dtype=torch.int64, device=counts.device))
    while todo:
        done += [_Looked.at(counts, series, num_groups) for series in todo]
        sums = reduce(torch.add, (looked.sums for looked in done))
        # near the maximum of the whole group: there series may be far from their own
        done, todo = _widened(done, _near(sums[0], sums[1], _NEAR * size))
    return sums[0], sums[2, -1], [looked.series for looked in done]


def _widened(looked: Iterable[_Looked], near: Tensor) -> tuple[list[_Looked], list[Series]]:
    """What stays on its scales, and the series that leave theirs, on wider ones."""
    stay, leave = [], []
    for each in looked:
        leaves = each.leaving(near)
        if each.series.grid.is_widest or not bool(leaves.any()):
            stay.append(each)
            continue
        leave.append(replace(each.series.only(leaves), grid=each.series.grid.widened()))
        rest = each.only(leaves.logical_not())
        if rest.chunks:
            stay.append(rest)
    return stay, leave


def _coarse(counts: Tensor, series: Series) -> Iterator[_Chunk]:
    for some in series.in_chunks():
        part = likelihood(as_weights(counts, some.index, some.grid), some.grid)
        yield _Chunk(some.group, marginal(part, some.grid), part.edge)


def _near(curve: Tensor, lost: Tensor, most: Tensor) -> Tensor:
    """Which nodes are near the groups' maxima, [nodes, groups]: the interval ends there, whatever the series share.

    Of the curves as they stand, and as they may be where scales are too narrow: series that differ lose much as well.
    """
    return (lost <= lost.amin(0) + most) | (curve >= curve.amax(0) - most)
