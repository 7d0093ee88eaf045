"""One tail index for many series, the scale of each integrated out; for several groups of series at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ._curves import highest, interval, maximize
from ._dispersion import dispersion
from ._each import CHI_SQUARE, Fit
from ._likelihood import as_weights, gaussian_profile, in_chunks, likelihood
from ._search import COARSE, Groups, Search, marginal, parts
from ._series import Series
from ._tables import LAST_NODE, alpha_at


def gaussian_ratios(groups: Groups) -> Tensor:
    """Twice the logarithm of the likelihood at its maximum over that at alpha = 2, shape [groups]."""
    curve, start = _fine(groups.cells.counts, groups.search)
    at_two = start + len(curve) - 1 == LAST_NODE
    # where both are at hand, that of the same computation: a maximum at 2 is then a ratio of exactly 0
    return 2 * (maximize(curve, at_two)[1] - torch.where(at_two, curve[-1], groups.search.curve[-1]))


def fit_pooled(groups: Groups, spread: float | None = None, intervals: Sequence[bool] | None = None) -> Fit:
    """Fits one tail index to the usable series of each group.

    Args:
        groups: The groups.
        spread: Dispersion of the score; None measures it where the bins of single values were kept.
        intervals: For which groups it is measured; None for all.

    Returns:
        The fit, its fields of shape [groups] but ``log_ratio``, of shape [series]. Intervals are NaN where the
        dispersion is unknown, and everything is for groups without a usable series.
    """
    cells, pooled = groups.cells, groups.search
    log_ratio = pooled.curve.new_full((len(cells.counts),), math.nan)
    filled, sizes = pooled.filled, groups.sizes
    curve, start = _fine(cells.counts, pooled)
    place, value = maximize(curve, start + len(curve) - 1 == LAST_NODE)
    node = start + place
    _scales(cells.counts, pooled.classes, torch.where(filled, node, -1), log_ratio)
    alpha, value = (torch.where(filled, found, math.nan) for found in (alpha_at(node), value))
    size = sum((series.group.bincount(minlength=len(sizes)) for series in pooled.classes), torch.zeros_like(filled))
    wide = value.new_full(value.shape, math.nan if spread is None else spread)
    wanted = torch.tensor([True] * len(sizes) if intervals is None else list(intervals), device=filled.device) & filled
    if spread is None and cells.index.shape[1] > 0 and bool(wanted.any()):
        wide = dispersion(groups.x, cells, [s.of(wanted.nonzero()[:, 0]) for s in pooled.classes], alpha)
    wide = torch.where(wanted, wide, math.nan)
    low, high = torch.where(wide.isnan(), math.nan, alpha_at(_ends(curve, start, pooled.curve, node, value, wide)))
    gain = ((value - _gaussian(cells.counts, pooled)) / pooled.num_values).clamp(
        min=0
    )  # the Gaussian is one of the stable laws
    return Fit(alpha, low, high, log_ratio, value, gain, size / wide)


def _gaussian(counts: Tensor, found: Search) -> Tensor:
    """Log-likelihood of the best Gaussians of the groups, [groups], however far their scales are from the unit."""
    total = torch.zeros_like(found.curve[-1])
    for series in found.classes:
        for _, weights, summed in parts(counts, series, len(total)):
            width = (math.pi / weights.sum(1)).log() / 2  # of the likelihood, whose curvature is two for each value
            total += summed(gaussian_profile(weights, series.grid.per_octave) + width)
    return torch.maximum(total, found.curve[-1])


def _fine(counts: Tensor, pooled: Search) -> tuple[Tensor, Tensor]:
    """Curves of the groups around the coarse maximum, [nodes, groups], and the first of these nodes, [groups]."""
    width, filled = 2 * COARSE.step, pooled.filled
    first = (highest(pooled.curve) * COARSE.step - COARSE.step).clamp(0, LAST_NODE - width)
    curve = pooled.curve.new_zeros(width + 1, pooled.curve.shape[1])
    for k in torch.unique(first[filled]).tolist():
        groups, nodes = (filled & (first == k)).nonzero()[:, 0], range(k, k + width + 1)
        for series in pooled.classes:
            some = replace(series.of(groups), grid=series.grid.over(nodes))
            for _, weights, summed in parts(counts, some, len(filled)):
                curve += summed(marginal(likelihood(weights, some.grid), some.grid))
    return curve, first


def _ends(fine: Tensor, start: Tensor, coarse: Tensor, node: Tensor, value: Tensor, spread: Tensor) -> Tensor:
    """Nodes at which the intervals end, [2, groups]: on the fine curve, or beyond it on the coarse one."""
    level = CHI_SQUARE * spread
    inner = start + torch.stack(interval(fine, node - start, value, level))
    outer = torch.stack(interval(coarse, node / COARSE.step, value, level)) * COARSE.step
    return torch.where((inner > start) & (inner < start + len(fine) - 1), inner, outer)


def _scales(counts: Tensor, classes: Sequence[Series], node: Tensor, log_ratio: Tensor) -> None:
    """Fills in the logarithms of the series' scales at the nodes of their groups; groups of none have -1."""
    below = node.long().clamp(max=LAST_NODE - 1)
    for k in torch.unique(below[node >= 0]).tolist():
        groups = ((below == k) & (node >= 0)).nonzero()[:, 0]
        for series in classes:
            some, grid = series.of(groups), series.grid.over(range(k, k + 2))
            for index, group in zip(in_chunks(some.index), in_chunks(some.group), strict=True):
                best = likelihood(as_weights(counts, index, grid), grid).best.double()
                before, after = (grid.log_scale(best[i], torch.tensor(i, device=best.device)) for i in (0, 1))
                log_ratio[index] = torch.lerp(before, after, (node[group] - k).double())
