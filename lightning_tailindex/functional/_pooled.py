"""One tail index for many series, the scale of each integrated out; for several groups of series at once."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ._curves import interval, maximize
from ._dispersion import dispersion
from ._each import CHI_SQUARE, Fit
from ._likelihood import gaussian_profile
from ._search import COARSE, Groups, Search, parts
from ._tables import LAST_NODE, alpha_at
from ._windows import WIDTH, Windows


def gaussian_ratios(groups: Groups) -> Tensor:
    """Twice the logarithm of the likelihood at its maximum over that at alpha = 2, shape [groups]."""
    windows = Windows.of(groups.cells.counts, groups.search)
    curve, start = windows.curve, windows.start
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
    windows = Windows.of(cells.counts, pooled)
    curve, start = windows.curve, windows.start
    place, value = maximize(curve, start + len(curve) - 1 == LAST_NODE)
    node = start + place
    _scales(cells.counts, windows, place.double(), log_ratio)
    alpha, value = (torch.where(filled, found, math.nan) for found in (alpha_at(node), value))
    size = sum((series.group.bincount(minlength=len(sizes)) for series in pooled.classes), torch.zeros_like(filled))
    wide = value.new_full(value.shape, math.nan if spread is None else spread)
    wanted = torch.tensor([True] * len(sizes) if intervals is None else list(intervals), device=filled.device) & filled
    if spread is None and cells.index.shape[1] > 0 and bool(wanted.any()):
        wide = dispersion(groups, windows, wanted, alpha)
    wide = torch.where(wanted, wide, math.nan)
    low, high = torch.where(wide.isnan(), math.nan, alpha_at(_ends(curve, start, pooled.curve, node, value, wide)))
    above = value - _gaussian(cells.counts, pooled)
    gain = (above / pooled.num_values).clamp(min=0)  # the Gaussian is one of the stable laws
    return Fit(alpha, low, high, log_ratio, value, gain, size / wide)


def _gaussian(counts: Tensor, found: Search) -> Tensor:
    """Log-likelihood of the best Gaussians of the groups, [groups], however far their scales are from the unit."""
    total, outside = torch.zeros_like(found.curve[-1]), found.wider_at_two.nonzero()[:, 0]
    for series in (series.of(outside) for series in found.classes) if len(outside) > 0 else ():
        for _, weights, summed in parts(counts, series, len(total)):
            width = (math.pi / weights.sum(1)).log() / 2  # of the likelihood, whose curvature is two for each value
            total += summed(gaussian_profile(weights, series.grid.per_octave) + width)
    return torch.where(found.wider_at_two, torch.maximum(total, found.curve[-1]), found.curve[-1])


def _ends(fine: Tensor, start: Tensor, coarse: Tensor, node: Tensor, value: Tensor, spread: Tensor) -> Tensor:
    """Nodes at which the intervals end, [2, groups]: on the fine curve, or beyond it on the coarse one."""
    level = CHI_SQUARE * spread
    inner = start + torch.stack(interval(fine, node - start, value, level))
    outer = torch.stack(interval(coarse, node / COARSE.step, value, level)) * COARSE.step
    return torch.where((inner > start) & (inner < start + len(fine) - 1), inner, outer)


def _scales(counts: Tensor, windows: Windows, place: Tensor, log_ratio: Tensor) -> None:
    """Fills in the logarithms of the series' scales at places in the windows of their groups."""
    below = place.long().clamp(max=WIDTH - 1)
    for part in windows.parts:
        index, group, grid = part.series.index, part.series.group, part.series.grid
        nodes = torch.stack([below[group], below[group] + 1])
        before, after = grid.log_scale(part.likelihood(counts).best.gather(0, nodes).double(), nodes)
        log_ratio[index] = torch.lerp(before, after, place[group] - below[group])
