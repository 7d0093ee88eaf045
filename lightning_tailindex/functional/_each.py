"""The fit of each series by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._counts import Cells
from ._curves import at, between, highest, interval, maximize
from ._likelihood import (
    LARGEST_EDGE,
    Grid,
    as_weights,
    by_length,
    coarse_nodes,
    fine_nodes,
    gaussian_profile,
    in_chunks,
    likelihood,
)
from ._tables import alpha_grid, log_medians

CHI_SQUARE = 3.841458820694124


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


def fit_each(cells: Cells, per_octave: int) -> Fit:
    """Fits every usable series by itself, its interval by the profile likelihood; NaN for the others."""
    out = cells.counts.new_full((6, len(cells.counts)), math.nan, dtype=torch.float64)
    for series, grid in by_length(cells, per_octave):
        _fit(cells.counts, grid, out, series)
    alpha, low, high, log_ratio, value, gaussian = out
    gain = ((value - gaussian) / cells.num_values).clamp(min=0)  # the Gaussian is one of the stable laws
    return Fit(alpha, low, high, log_ratio, value, gain, torch.full_like(alpha, math.nan))


def _fit(counts: Tensor, grid: Grid, out: Tensor, series: Tensor) -> None:
    """Fits series of about one length; searches coarsely, then finely where the coarse maximum is."""
    parts = [_coarse(as_weights(counts[part], grid), grid) for part in in_chunks(series)]
    curve, gaussian, narrow = (torch.cat(part, -1) for part in zip(*parts, strict=True))
    if not grid.is_widest and bool(narrow.any()):
        _fit(counts, grid.widened(), out, series[narrow])
        curve, gaussian, series = curve[:, ~narrow], gaussian[~narrow], series[~narrow]
    out[5, series], best = gaussian.to(out), highest(curve)
    for node in torch.unique(best).tolist():
        for part in in_chunks((best == node).nonzero()[:, 0]):
            out[:5, series[part]] = _refine(as_weights(counts[series[part]], grid), grid, curve[:, part], node).to(out)


def _coarse(weights: Tensor, grid: Grid) -> tuple[Tensor, Tensor, Tensor]:
    """Profile at every fourth node, [nodes, series]; that of the best Gaussian; where the grid is too narrow."""
    coarse = likelihood(weights, grid, coarse_nodes())
    curve = coarse.profile
    gaussian = torch.maximum(curve[-1], gaussian_profile(weights, grid.per_octave))
    return curve, gaussian, at(coarse.edge, highest(curve)) > LARGEST_EDGE


def _refine(weights: Tensor, grid: Grid, coarse: Tensor, node: int) -> Tensor:
    """Tail index, interval, log-scale and maximum of series whose coarse curves are highest at one node."""
    nodes = fine_nodes(node)
    fine = likelihood(weights, grid, nodes)
    union, order = merge(coarse_nodes(), nodes)
    curve, alpha = torch.cat([coarse, fine.profile])[order.to(weights.device)], alpha_grid()[union].to(weights)
    top = maximize(curve, alpha)
    low, high = interval(curve, alpha, top, CHI_SQUARE)
    log_scale = fine.best(grid.log_scales(nodes, weights)) - log_medians()[nodes].to(weights)[:, None]
    log_ratio = between(log_scale, alpha_grid()[nodes].to(weights), top.alpha)
    return torch.stack([top.alpha, low, high, log_ratio, top.value])


def merge(coarse: Tensor, fine: Tensor) -> tuple[Tensor, Tensor]:
    """The nodes of both, ascending, each once, and where they stand among the coarse and then the fine ones."""
    kept = torch.cat([coarse[~torch.isin(coarse, fine)], fine])
    place = torch.cat([(~torch.isin(coarse, fine)).nonzero()[:, 0], len(coarse) + torch.arange(len(fine))])
    union, order = kept.sort()
    return union, place[order]
