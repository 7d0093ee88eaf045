"""The profile likelihood of each series, and what is read off it: its maximum, the interval around it, the scale."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_tailindex.kernels import compiled

from ._curves import BEFORE_POLE, CHI_SQUARE, POLE, at, highest, interval, maximize
from ._grid import Grid
from ._likelihood import SMALLEST, as_weights, in_chunks, likelihood
from ._tables import LAST_NODE, like, log_medians

__all__ = ["Profiles", "profiles"]


@dataclass(frozen=True)
class Profiles:
    """What profile likelihoods tell, each field of shape [series]. Places are counted among the nodes of the grid.

    Attributes:
        place: Of the maximum.
        low: Of the lower end of the interval.
        high: Of its upper end.
        log_ratio: Logarithm of the scale in the unit of the cells.
        value: Value at the maximum.
        edge: Share of the outermost two scales at the highest node.
        first: Value at the first node.
        last: Value at the last node.
    """

    place: Tensor
    low: Tensor
    high: Tensor
    log_ratio: Tensor
    value: Tensor
    edge: Tensor
    first: Tensor
    last: Tensor


def profiles(counts: Tensor, series: Tensor, grid: Grid, level: Tensor) -> Profiles:
    """Fits some series, with intervals where twice the profile has fallen by a level of each, shape [series]."""
    level = level.to(torch.float32)
    if grid.in_single and compiled.suit(counts):
        return _compiled(counts, series, grid, level)
    weights = as_weights(counts, series, grid)
    parts = zip(in_chunks(weights, grid), in_chunks(level, grid), strict=True)
    found = [_by_torch(part, grid, own) for part, own in parts]
    return Profiles(*(torch.cat(field) for field in zip(*found, strict=True)))


def _is_at_two(grid: Grid) -> bool:
    return grid.nodes[-1] == LAST_NODE


def _compiled(counts: Tensor, series: Tensor, grid: Grid, level: Tensor) -> Profiles:
    medians = like(counts, log_medians)[grid.nodes.start : grid.nodes.stop : grid.nodes.step]
    pole = POLE if _is_at_two(grid) else math.inf
    found = compiled.fit(
        counts,
        series,
        grid.table(counts),
        SMALLEST,
        step=grid.log_spacing(counts).exp(),
        median=medians,
        threshold=level,
        pole=pole,
        pole_over_threshold=pole / CHI_SQUARE,
        before=BEFORE_POLE,
    )
    return Profiles(*found.unbind())


def _by_torch(weights: Tensor, grid: Grid, level: Tensor) -> tuple[Tensor, ...]:
    part = likelihood(weights, grid)
    curve, best, edge = part.profile, part.best, part.edge
    place, value = maximize(curve, _is_at_two(grid))
    low, high = interval(curve, place, value, level, _is_at_two(grid))
    before = place.long().clamp(max=len(curve) - 2)
    scale_before, scale_after = (grid.log_scale(at(best, node), node) for node in (before, before + 1))
    log_ratio = torch.lerp(scale_before, scale_after, (place - before).double())
    return place, low, high, log_ratio, value, at(edge, highest(curve)), curve[0], curve[-1]
