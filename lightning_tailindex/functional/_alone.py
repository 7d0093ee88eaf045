"""The tail index of each series by itself and nothing else, in a fraction of the time that the whole fit takes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ._counts import Cells
from ._curves import CHI_SQUARE, NEAREST
from ._grid import FEWEST_TOGETHER, Grid, by_length
from ._likelihood import LARGEST_EDGE, in_chunks, rough
from ._profile import profiles

# Nodes out of 5 that are looked at only where those above, which begin near a tail index of 0.63, are not enough.
_LOW = 2


def alphas_alone(cells: Cells, per_octave: int) -> Tensor:
    """Tail indices, shape [series]: those that :func:`._each.fit_each` finds; NaN for series that are not usable."""
    alpha = cells.counts.new_full((len(cells.counts),), math.nan, dtype=torch.float64)
    for series, grid in by_length(cells, per_octave, FEWEST_TOGETHER):
        first = grid.over(grid.nodes[_LOW * len(grid.nodes) // 5 :])
        rest, off = _find(cells.counts, series, first, alpha)
        for some, wider in ((rest, grid.widened()), (off, grid.wide())):
            while len(some) > 0:
                some, _ = _find(cells.counts, some, wider, alpha)
                wider = wider.widened()
    return alpha


def _find(counts: Tensor, series: Tensor, grid: Grid, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Fills in tail indices; returns the series that leave the grid, and those far from the unit of the cells."""
    left, off = [series[:0]], [series[:0]]
    for part in in_chunks(series, grid):
        leaves, is_off = _leaves(counts, part, grid, alpha)
        left.append(part[leaves & ~is_off])
        off.append(part[is_off])
    return torch.cat(left), torch.cat(off)


def _leaves(counts: Tensor, series: Tensor, grid: Grid, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Does so for a chunk; masks of the series whose scales or maxima are not within the grid, and of those far off."""
    level = torch.full(series.shape, CHI_SQUARE, device=counts.device)  # of intervals that nobody asked for
    found = profiles(counts, series, grid, level)
    alpha[series] = grid.alpha_at(found.place)
    too_narrow = (found.edge > LARGEST_EDGE) & (not grid.is_widest)
    if grid.nodes[0] == 0:
        return too_narrow, torch.zeros_like(too_narrow)
    every = grid.over(range(0, grid.nodes.stop, grid.nodes.step))
    return too_narrow | (found.place < NEAREST), rough(counts, series, every).is_off
