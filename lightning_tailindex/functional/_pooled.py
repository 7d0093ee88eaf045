"""One tail index for many series, the scale of each integrated out; for several groups of series at once."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ._counts import Cells
from ._curves import Maximum, between, highest, interval, maximize
from ._dispersion import dispersion
from ._each import CHI_SQUARE, Fit, merge
from ._likelihood import (
    Grid,
    Likelihood,
    as_weights,
    by_length,
    coarse_nodes,
    fine_nodes,
    gaussian_profile,
    in_chunks,
    likelihood,
    log_spacing,
)
from ._series import Series
from ._tables import alpha_grid, log_medians

_EDGE = 1e-2
_NEAR = 1.5


def _parts(
    counts: Tensor, series: Series, nodes: Tensor, num_groups: int
) -> Iterator[tuple[Tensor, Likelihood, Tensor]]:
    """Counts of some series at a time, their likelihood, and which group each belongs to as zeros and a one."""
    for index, group in zip(in_chunks(series.index), in_chunks(series.group), strict=True):
        weights = as_weights(counts[index], series.grid)
        yield weights, likelihood(weights, series.grid, nodes), one_hot(group, num_groups).double()


def _marginal(part: Likelihood, grid: Grid, nodes: Tensor) -> Tensor:
    """Log-likelihood with the scale integrated out, shape [nodes, series]."""
    return (part.marginal + log_spacing(grid, nodes, part.mass)[:, None]).double()


def _coarse(counts: Tensor, series: Series, num_groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """Curves of the groups [nodes, groups], those of the best Gaussians [groups], and whose scales leave the grid."""
    nodes = coarse_nodes()
    curve = counts.new_zeros(len(nodes), num_groups, dtype=torch.float64)
    gaussian, edge = curve[0].clone(), curve.clone()
    for weights, part, member in _parts(counts, series, nodes, num_groups):
        curve += _marginal(part, series.grid, nodes) @ member
        edge += part.edge.double() @ member
        width = (math.pi / weights.sum(1)).log() / 2  # of the likelihood, whose curvature is two for each value
        gaussian += (gaussian_profile(weights, series.grid.per_octave) + width).double() @ member
    size = series.group.bincount(minlength=num_groups)
    near = curve >= curve.amax(0) - _NEAR * size  # the interval ends there, whatever the series share
    return curve, torch.maximum(gaussian, curve[-1]), (edge * near > _EDGE * size).any(0)


def _fine(counts: Tensor, series: Series, nodes: Tensor, num_groups: int) -> tuple[Tensor, Tensor]:
    """Curves of the groups [nodes, groups], and the logarithms of the series' scales [nodes, series]."""
    curve = counts.new_zeros(len(nodes), num_groups, dtype=torch.float64)
    log_scale, medians = [], log_medians()[nodes].to(curve)[:, None]
    for weights, part, member in _parts(counts, series, nodes, num_groups):
        curve += _marginal(part, series.grid, nodes) @ member
        log_scale.append(part.best(series.grid.log_scales(nodes, weights)).double() - medians)
    return curve, torch.cat(log_scale, dim=1)


@dataclass(frozen=True)
class Search:
    """A coarse search for one tail index for each group.

    Attributes:
        classes: The usable series by their lengths.
        curve: Coarse log-likelihoods, shape [nodes, groups].
        gaussian: Log-likelihood of the best Gaussians, shape [groups].
        num_values: Values in the usable series, shape [groups].
    """

    classes: tuple[Series, ...]
    curve: Tensor
    gaussian: Tensor
    num_values: Tensor


def search(cells: Cells, sizes: Sequence[int], per_octave: int) -> Search:
    """Evaluates every fourth node for the usable series of each group, on scales that are wide enough."""
    counts, num_groups = cells.counts, len(sizes)
    group = torch.arange(num_groups).repeat_interleave(torch.tensor(sizes)).to(counts.device)
    usable = cells.usable.nonzero()[:, 0]
    classes = [Series(i, group[i], grid) for i, grid in by_length(cells, per_octave)]
    curve = counts.new_zeros(len(coarse_nodes()), num_groups, dtype=torch.float64)
    gaussian = curve[0].clone()
    wide: list[Series] = []
    while classes:
        series = classes.pop(0)
        part, best, leaves = _coarse(counts, series, num_groups)
        leaves = leaves & (not series.grid.is_widest)
        curve, gaussian = curve + part * ~leaves, gaussian + best * ~leaves
        for some, grid in ((~leaves, series.grid), (leaves, series.grid.widened())):
            chosen = replace(series.of(some.nonzero()[:, 0]), grid=grid)
            if len(chosen.index) > 0:
                (wide if grid is series.grid else classes).append(chosen)
    num_values = one_hot(group[usable], num_groups).double().T @ cells.num_values[usable].double()
    return Search(tuple(wide), curve, gaussian, num_values)


def fit_pooled(x: Tensor, cells: Cells, sizes: Sequence[int], per_octave: int, spread: float | None = None) -> Fit:
    """Fits one tail index to the usable series of each group.

    Args:
        x: The values, shape [n, series], group after group.
        cells: Their counts.
        sizes: Number of series in each group.
        per_octave: Cells an octave.
        spread: Dispersion of the score; None measures it where the bins of single values were kept.

    Returns:
        The fit, its fields of shape [groups] but ``log_ratio``, of shape [series]. Intervals are NaN where the
        dispersion is unknown, and everything is for groups without a usable series.
    """
    pooled = search(cells, sizes, per_octave)
    out = pooled.curve.new_full((5, len(sizes)), math.nan)
    log_ratio = pooled.curve.new_full((len(cells.counts),), math.nan)
    filled, best = pooled.num_values.nonzero()[:, 0], highest(pooled.curve)
    for node in torch.unique(best[filled]).tolist():
        _refine(x, cells, pooled, filled[best[filled] == node], node, out, log_ratio, spread)
    alpha, low, high, value, effective = out
    gain = ((value - pooled.gaussian) / pooled.num_values).clamp(min=0)  # the Gaussian is one of the stable laws
    return Fit(alpha, low, high, log_ratio, value, gain, effective)


def _refine(
    x: Tensor,
    cells: Cells,
    pooled: Search,
    groups: Tensor,
    node: int,
    out: Tensor,
    log_ratio: Tensor,
    known: float | None,
) -> None:
    """Fills in the fits of groups whose coarse curves are highest at one node."""
    nodes, chosen = fine_nodes(node), [series.of(groups) for series in pooled.classes]
    fine = [_fine(cells.counts, series, nodes, pooled.curve.shape[1]) for series in chosen]
    union, order = merge(coarse_nodes(), nodes)
    curve = torch.cat([pooled.curve, torch.stack([part for part, _ in fine]).sum(0)])[order.to(groups.device)][
        :, groups
    ]
    alpha = alpha_grid()[union].to(curve)
    top = maximize(curve, alpha)
    out[0, groups], out[3, groups] = top.alpha, top.value
    for series, (_, log_scale) in zip(chosen, fine, strict=True):
        log_ratio[series.index] = between(log_scale, alpha_grid()[nodes].to(alpha), out[0, series.group])
    for place, group in enumerate(groups.tolist() if known or cells.index.shape[1] else []):
        own = [series.of(groups[place : place + 1]) for series in chosen]
        spread = known or dispersion(x, cells, own, float(top.alpha[place]))
        scaled = Maximum(top.alpha[place : place + 1], top.value[place : place + 1] / spread)
        ends = interval(curve[:, place : place + 1] / spread, alpha, scaled, CHI_SQUARE)
        out[1, group], out[2, group] = ends[0][0], ends[1][0]
        out[4, group] = sum(len(series.index) for series in own) / spread
