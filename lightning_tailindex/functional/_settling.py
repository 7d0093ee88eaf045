"""Coarse curves of groups of series, on scales that are widened until they are wide enough for each series."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import torch
from torch import Tensor

from ._likelihood import as_weights, likelihood
from ._series import Series, marginal, sums_of_groups

__all__ = ["settled"]

T = TypeVar("T")

_EDGE, _OWN_EDGE = 1e-2, 0.1  # of a group's series on average, and of one of them
_NEAR, _MOST_LOST = 1.5, 8.0  # nats a series on average, and the most that one counts for: its scales may be too narrow


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

    @property
    def curve(self) -> Tensor:
        """Sums of ``value`` over each group, shape [nodes, groups]."""
        return sums_of_groups(self.value, self.sizes)

    @property
    def lost(self) -> Tensor:
        """Sums of what each series has lost from its maximum, which counts up to a limit, shape [nodes, groups]."""
        return sums_of_groups((self.value.amax(0) - self.value).clamp(max=_MOST_LOST), self.sizes)

    @property
    def edges(self) -> Tensor:
        """Sums of ``edge`` over each group, shape [nodes, groups]."""
        return sums_of_groups(self.edge, self.sizes)

    def only(self, chosen: Tensor) -> _Chunk:
        """Those that a mask of shape [series] tells."""
        kept = chosen.nonzero()[:, 0]
        group = self.group.index_select(0, kept)
        value, edge = (own.index_select(1, kept) for own in (self.value, self.edge))
        return _Chunk(group, group.bincount(minlength=len(self.sizes)), value, edge)


@dataclass(frozen=True)
class _Looked:
    """Series on scales of one grid, and what was found there."""

    series: Series
    chunks: tuple[_Chunk, ...]

    @cached_property
    def sizes(self) -> Tensor:
        """How many of the series are of each group, shape [groups]."""
        return _total(self.chunks, lambda chunk: chunk.sizes)

    @cached_property
    def curve(self) -> Tensor:
        """Sums of the chunks' curves, kept for all of them only: with many groups each takes as much as its series."""
        return _total(self.chunks, lambda chunk: chunk.curve)

    @cached_property
    def lost(self) -> Tensor:
        """Sums of what the series have lost."""
        return _total(self.chunks, lambda chunk: chunk.lost)

    @cached_property
    def edges(self) -> Tensor:
        """Sums of what the outermost scales share."""
        return _total(self.chunks, lambda chunk: chunk.edges)

    @classmethod
    def at(cls, counts: Tensor, series: Series, num_groups: int) -> _Looked:
        """Evaluates the nodes of the grid."""
        return cls(series, tuple(_coarse(counts, series, num_groups)))

    def leaving(self, near: Tensor) -> Tensor:
        """Which series leave the grid at nodes near the maxima, of a whole group or one by one, shape [series]."""
        together = (self.edges * near > _EDGE * self.sizes).any(0)
        own = [((c.edge > _OWN_EDGE) & near[:, c.group]).any(0) | together[c.group] for c in self.chunks]
        return torch.cat(own)

    def only(self, chosen: Tensor) -> _Looked:
        """Those series that a mask of shape [series] tells."""
        own = torch.split(chosen, [len(chunk.group) for chunk in self.chunks])
        kept = (chunk.only(some) for chunk, some in zip(self.chunks, own, strict=True))
        return _Looked(self.series.only(chosen), tuple(chunk for chunk in kept if len(chunk.group) > 0))


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
    near = torch.zeros(len(nodes), num_groups, dtype=torch.bool, device=counts.device)
    while todo:
        done += [_Looked.at(counts, series, num_groups) for series in todo]
        # near the maximum of the whole group: there series may be far from their own
        near = near | _near(done)
        done, todo = _widened(done, near)
    curve = counts.new_zeros(len(nodes), num_groups, dtype=torch.float64)
    edge = curve[0].clone()
    for looked in done:
        curve += looked.curve
        edge += looked.edges[-1]
    return curve, edge, [looked.series for looked in done]


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


def _coarse(counts: Tensor, series: Series, num_groups: int) -> Iterator[_Chunk]:
    for some in series.in_chunks():
        part = likelihood(as_weights(counts, some.index, some.grid), some.grid)
        yield _Chunk(some.group, some.group.bincount(minlength=num_groups), marginal(part, some.grid), part.edge)


def _total(parts: Iterable[T], what: Callable[[T], Tensor]) -> Tensor:
    found = map(what, parts)  # one at a time
    return sum(found, start=next(found))


def _near(looked: list[_Looked]) -> Tensor:
    """Which nodes are near the groups' maxima, [nodes, groups]: the interval ends there, whatever the series share.

    Of the curves as they stand, and as they may be where scales are too narrow: series that differ lose much as well.
    """
    most = _NEAR * _total(looked, lambda each: each.sizes)
    lost, curve = _total(looked, lambda each: each.lost), _total(looked, lambda each: each.curve)
    return (lost <= lost.amin(0) + most) | (curve >= curve.amax(0) - most)
