"""The fit of each series by itself."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ._counts import Cells
from ._curves import CHI_SQUARE, NEAREST
from ._grid import Grid, by_length
from ._likelihood import LARGEST_EDGE, rough
from ._profile import profiles
from ._tables import LAST_NODE

# Nodes, a standard deviation apart, on either side of where a rough profile is highest, at least.
_MARGIN = 4
_SERIES = 1 << 16  # series whose curves are looked at at once
_FEW = 1 << 20  # products of series, nodes and scales that take less time than to treat two windows apart


@dataclass(frozen=True)
class Fit:
    """A fit, each field of shape [series]; where pooled, of shape [groups] except ``log_ratio``.

    Attributes:
        alpha: Tail index.
        low: Lower end of its interval.
        high: Upper end of its interval.
        log_ratio: Logarithm of the scale in the unit of the cells.
        log_likelihood: Maximal log-likelihood.
        gain: Log-likelihood of a value above that at alpha = 2.
        effective_series: Effective number of series.
    """

    alpha: Tensor
    low: Tensor
    high: Tensor
    log_ratio: Tensor
    log_likelihood: Tensor
    gain: Tensor
    effective_series: Tensor


def fit_each(cells: Cells, per_octave: int, share: Tensor | None = None) -> Fit:
    """Fits every usable series by itself, its interval by the profile likelihood; NaN for the others.

    Args:
        cells: The counts.
        per_octave: Cells an octave.
        share: Share of each series' values that these are, shape [series]: intervals are those of all; None for all.
    """
    level = cells.unit.new_full(cells.unit.shape, CHI_SQUARE) if share is None else CHI_SQUARE * share
    out = cells.counts.new_full((6, len(cells.counts)), math.nan, dtype=torch.float64)
    profile, near_two = out[5].clone(), torch.zeros_like(cells.usable)
    for series, grid in by_length(cells, per_octave):
        middle, is_off = _looked_at(cells.counts, grid, series, profile)
        near_two[series] = is_off | (middle + _MARGIN >= len(grid.nodes) - 1)
        windows = _windows(series[~is_off], middle[~is_off], grid)
        fits = [_fit(cells.counts, grid.over(nodes), some, level, out) for some, nodes in windows]
        leaves, beyond = (torch.cat(found) for found in zip((series[:0], series[:0]), *fits, strict=True))
        leaves = torch.cat([leaves, _fit(cells.counts, grid, beyond.sort().values, level, out)[0]])
        _settle(cells.counts, grid.widened(), leaves, level, out)
        _settle(cells.counts, grid.wide(), series[is_off], level, out)
    alpha, low, high, log_ratio, value, same = out
    # near 2 the Gaussian is that of the same computation too, so that a maximum at 2 has a gain of exactly 0
    gaussian = torch.where(near_two, profile.fmax(same), profile)
    gain = ((value - gaussian) / cells.num_values).clamp(min=0)  # the Gaussian is one of the stable laws
    return Fit(alpha, low, high, log_ratio, value, gain, torch.full_like(alpha, math.nan))


def _looked_at(counts: Tensor, grid: Grid, series: Tensor, gaussian: Tensor) -> tuple[Tensor, Tensor]:
    """Where rough profiles of series are highest, and whether far from their units; fills in Gaussians' likelihoods."""
    found = []
    for some in torch.split(series, _SERIES):
        found.append(rough(counts, some, grid))
        gaussian[some] = found[-1].gaussian.to(gaussian)
    return torch.cat([each.node for each in found]), torch.cat([each.is_off for each in found])


def _windows(series: Tensor, middle: Tensor, grid: Grid) -> Iterator[tuple[Tensor, range]]:
    """Series of about one length by where a rough profile is highest, with the nodes around."""
    if len(series) == 0:
        return
    first, last = max(int(middle.min()) - _MARGIN, 0), int(middle.max()) + _MARGIN
    if (last - first) * len(series) * grid.half <= _FEW:
        yield series, grid.nodes[min(first, len(grid.nodes) - 3 * _MARGIN) : last + 1]
        return
    window = (middle // _MARGIN - 1).clamp(0, max(len(grid.nodes) // _MARGIN - 2, 0)) * _MARGIN
    for k in window.bincount().nonzero()[:, 0].tolist():
        yield series[window == k], grid.nodes[k : k + 3 * _MARGIN]


def _settle(counts: Tensor, grid: Grid, series: Tensor, level: Tensor, out: Tensor) -> None:
    """Fills in the fits of series at all nodes, on scales that are wide enough."""
    while len(series) > 0:
        series, _ = _fit(counts, grid, series.sort().values, level, out)
        grid = grid.widened()


def _fit(counts: Tensor, grid: Grid, series: Tensor, level: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    """Fills in the fits of series; finds those whose scales leave the grid, and other ones that the nodes cut off."""
    narrow, cut = [series[:0]], [series[:0]]
    for some in torch.split(series, _SERIES) if len(series) > 0 else ():
        fit, leaves, beyond = _refine(counts, some, grid, level)
        out[:5, some], out[5, some] = fit[:5], out[5, some].fmax(fit[5])
        narrow.append(some[leaves & ~beyond])
        cut.append(some[beyond])
    return torch.cat(narrow), torch.cat(cut)


def _refine(counts: Tensor, series: Tensor, grid: Grid, level: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fit of each series, [6, series], with the Gaussian if that is a node; where scales, where nodes are cut off."""
    level = level.index_select(0, series)
    found, last = profiles(counts, series, grid, level), len(grid.nodes) - 1
    is_first, is_last = grid.nodes[0] == 0, grid.nodes[-1] == LAST_NODE
    value = found.value
    below = (found.place < NEAREST) | (2 * (value - found.first) < level)
    above = (found.place > last - NEAREST) | (2 * (value - found.last) < level)
    beyond = (below & (not is_first)) | (above & (not is_last))
    leaves = (found.edge > LARGEST_EDGE) & (not grid.is_widest)
    alphas = grid.alpha_at(torch.stack([found.place, found.low, found.high]))
    gaussian = found.last if is_last else torch.full_like(value, math.nan)
    return torch.cat([alphas, torch.stack([found.log_ratio, value, gaussian]).double()]), leaves, beyond
