"""One tail index for many series, the scale of each integrated out; for several groups of series at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from ._counts import Cells
from ._curves import highest, interval, maximize
from ._dispersion import dispersion
from ._each import CHI_SQUARE, Fit
from ._grid import Grid, by_length, every
from ._likelihood import Likelihood, as_weights, gaussian_profile, in_chunks, likelihood
from ._series import Series, sums_of_groups
from ._tables import LAST_NODE, alpha_at

_EDGE = 1e-2
_NEAR = 1.5
_COARSE = every(4)
_FEWEST = 2048  # series below which handling them apart would take longer than more scales


def _parts(
    counts: Tensor, series: Series, num_groups: int
) -> Iterator[tuple[Tensor, Callable[[Tensor], Tensor]]]:
    """Some series at a time, their counts, and what sums values [..., series] up over each group."""
    for index, group in zip(in_chunks(series.index), in_chunks(series.group), strict=True):
        yield as_weights(counts, index, series.grid), partial(sums_of_groups, group=group, num_groups=num_groups)


def _marginal(part: Likelihood, grid: Grid) -> Tensor:
    """Log-likelihood with the scale integrated out, shape [nodes, series]."""
    return part.marginal + grid.log_spacing(part.mass)[:, None]


def _coarse(counts: Tensor, series: Series, num_groups: int) -> tuple[Tensor, Tensor]:
    """Curves of the groups [nodes, groups], and whose scales leave the grid."""
    curve = counts.new_zeros(len(series.grid.nodes), num_groups, dtype=torch.float64)
    edge = curve.clone()
    for weights, summed in _parts(counts, series, num_groups):
        part = likelihood(weights, series.grid)
        curve += summed(_marginal(part, series.grid))
        edge += summed(part.edge)
    size = series.group.bincount(minlength=num_groups)
    near = curve >= curve.amax(0) - _NEAR * size  # the interval ends there, whatever the series share
    return curve, (edge * near > _EDGE * size).any(0)


def _gaussian(counts: Tensor, found: Search) -> Tensor:
    """Log-likelihood of the best Gaussians of the groups, [groups], however far their scales are from the unit."""
    total = torch.zeros_like(found.curve[-1])
    for series in found.classes:
        for weights, summed in _parts(counts, series, len(total)):
            width = (math.pi / weights.sum(1)).log() / 2  # of the likelihood, whose curvature is two for each value
            total += summed(gaussian_profile(weights, series.grid.per_octave) + width)
    return torch.maximum(total, found.curve[-1])


@dataclass(frozen=True)
class Search:
    """A coarse search for one tail index for each group.

    Attributes:
        classes: The usable series by their lengths, with scales that are wide enough.
        curve: Coarse log-likelihoods, shape [nodes, groups].
        num_values: Values in the usable series, shape [groups].
    """

    classes: tuple[Series, ...]
    curve: Tensor
    num_values: Tensor


def gaussian_ratios(cells: Cells, sizes: Sequence[int], per_octave: int) -> Tensor:
    """Twice the logarithm of the likelihood at its maximum over that at alpha = 2, shape [groups]."""
    found = search(cells, sizes, per_octave)
    curve, start = _fine(cells.counts, found, found.num_values > 0)
    at_two = start + len(curve) - 1 == LAST_NODE
    # where both are at hand, that of the same computation: a maximum at 2 is then a ratio of exactly 0
    return 2 * (maximize(curve, at_two)[1] - torch.where(at_two, curve[-1], found.curve[-1]))


def search(cells: Cells, sizes: Sequence[int], per_octave: int) -> Search:
    """Evaluates coarsely spaced nodes for the usable series of each group, on scales that are wide enough."""
    counts, num_groups = cells.counts, len(sizes)
    group = torch.arange(num_groups).repeat_interleave(torch.tensor(sizes)).to(counts.device)
    usable = cells.usable.nonzero()[:, 0]
    classes = [Series(i, group[i], grid.over(_COARSE)) for i, grid in by_length(cells, per_octave, _FEWEST)]
    curve = counts.new_zeros(len(_COARSE), num_groups, dtype=torch.float64)
    wide: list[Series] = []
    while classes:
        series = classes.pop(0)
        part, leaves = _coarse(counts, series, num_groups)
        leaves = leaves & (not series.grid.is_widest)
        curve = curve + part * ~leaves
        for some, grid in ((~leaves, series.grid), (leaves, series.grid.widened())):
            chosen = replace(series.of(some.nonzero()[:, 0]), grid=grid)
            if len(chosen.index) > 0:
                (wide if grid is series.grid else classes).append(chosen)
    num_values = sums_of_groups(cells.num_values[usable], group[usable], num_groups)
    return Search(tuple(wide), curve, num_values)


def fit_pooled(
    x: Tensor,
    cells: Cells,
    sizes: Sequence[int],
    per_octave: int,
    spread: float | None = None,
    intervals: Sequence[bool] | None = None,
) -> Fit:
    """Fits one tail index to the usable series of each group.

    Args:
        x: The values, shape [n, series], group after group.
        cells: Their counts.
        sizes: Number of series in each group.
        per_octave: Cells an octave.
        spread: Dispersion of the score; None measures it where the bins of single values were kept.
        intervals: For which groups it is measured; None for all.

    Returns:
        The fit, its fields of shape [groups] but ``log_ratio``, of shape [series]. Intervals are NaN where the
        dispersion is unknown, and everything is for groups without a usable series.
    """
    pooled = search(cells, sizes, per_octave)
    log_ratio = pooled.curve.new_full((len(cells.counts),), math.nan)
    filled = pooled.num_values > 0
    curve, start = _fine(cells.counts, pooled, filled)
    place, value = maximize(curve, start + len(curve) - 1 == LAST_NODE)
    node = start + place
    _scales(cells.counts, pooled.classes, torch.where(filled, node, -1), log_ratio)
    alpha, value = (torch.where(filled, found, math.nan) for found in (alpha_at(node), value))
    size = sum((series.group.bincount(minlength=len(sizes)) for series in pooled.classes), torch.zeros_like(filled))
    wide = value.new_full(value.shape, math.nan if spread is None else spread)
    wanted = torch.tensor([True] * len(sizes) if intervals is None else list(intervals), device=filled.device) & filled
    if spread is None and cells.index.shape[1] > 0 and bool(wanted.any()):
        wide = dispersion(x, cells, [s.of(wanted.nonzero()[:, 0]) for s in pooled.classes], alpha)
    wide = torch.where(wanted, wide, math.nan)
    low, high = torch.where(wide.isnan(), math.nan, alpha_at(_ends(curve, start, pooled.curve, node, value, wide)))
    gain = ((value - _gaussian(cells.counts, pooled)) / pooled.num_values).clamp(min=0)  # the Gaussian is one of the stable laws
    return Fit(alpha, low, high, log_ratio, value, gain, size / wide)


def _fine(counts: Tensor, pooled: Search, filled: Tensor) -> tuple[Tensor, Tensor]:
    """Curves of the groups around the coarse maximum, [nodes, groups], and the first of these nodes, [groups]."""
    width = 2 * _COARSE.step
    first = (highest(pooled.curve) * _COARSE.step - _COARSE.step).clamp(0, LAST_NODE - width)
    curve = pooled.curve.new_zeros(width + 1, pooled.curve.shape[1])
    for k in torch.unique(first[filled]).tolist():
        groups, nodes = (filled & (first == k)).nonzero()[:, 0], range(k, k + width + 1)
        for series in pooled.classes:
            some = replace(series.of(groups), grid=series.grid.over(nodes))
            for weights, summed in _parts(counts, some, len(filled)):
                curve += summed(_marginal(likelihood(weights, some.grid), some.grid))
    return curve, first


def _ends(fine: Tensor, start: Tensor, coarse: Tensor, node: Tensor, value: Tensor, spread: Tensor) -> Tensor:
    """Nodes at which the intervals end, [2, groups]: on the fine curve, or beyond it on the coarse one."""
    level = CHI_SQUARE * spread
    inner = start + torch.stack(interval(fine, node - start, value, level))
    outer = torch.stack(interval(coarse, node / _COARSE.step, value, level)) * _COARSE.step
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
