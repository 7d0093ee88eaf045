"""One tail index for many series, the scale of each integrated out, and what their dependence leaves of it."""

from __future__ import annotations

import math

import torch
from scipy.stats import f as f_law
from torch import Tensor

from ._counts import Cells
from ._curves import interval, maximize
from ._profile import Fit, Grid, best_scale, between, choose_grid, log_likelihood
from ._tables import alpha_grid, scale_unit

_BLOCKS = 16
_STENCIL = 2  # nodes from the middle to the ends of the differences that stand for derivatives in alpha
_STENCIL_BELOW = 1.975  # where the middle stays: nearer to 2 a single value decides on the derivatives


def fit_pooled(cells: Cells) -> Fit:
    """Fits one tail index to all usable series, its interval widened by what the series share."""
    counts, index = cells.counts[cells.usable], cells.index[:, cells.usable]
    if len(counts) == 0:
        nan = counts.new_tensor(math.nan)
        return Fit(nan, nan, nan, counts.sum(1), nan, nan, nan)
    grid, nodes = choose_grid(counts), torch.arange(len(alpha_grid()))
    alpha, curve = alpha_grid().to(counts), marginal(counts, grid, nodes)[None]
    top = maximize(curve, alpha)
    spread = dispersion(index, counts, grid, int(curve.argmax()))
    low, high = interval(curve / spread, alpha, type(top)(top.alpha, top.value / spread), threshold(len(index)))
    near = torch.searchsorted(alpha_grid(), top.alpha.cpu()).clamp(1, len(alpha) - 1) + torch.tensor([-1, 0])
    _, log_ratio = best_scale(log_likelihood(counts, grid, near), grid, near)
    log_ratio = between(log_ratio, alpha[near], top.alpha.expand(len(counts)))
    gain = (top.value - curve[:, -1]) / counts.sum()
    return Fit(top.alpha, low, high, log_ratio, top.value, gain, len(counts) / spread)


def marginal(counts: Tensor, grid: Grid, nodes: Tensor) -> Tensor:
    """Log-likelihood at each node, summed over series whose log-scales are integrated out, shape [nodes]."""
    total = torch.zeros(len(nodes), dtype=counts.dtype, device=counts.device)
    for part in grid.chunks(counts, nodes):
        total += log_likelihood(part, grid, nodes).logsumexp(-1).sum(0)
    return total + len(counts) * _log_spacing(grid, nodes).to(total)


def _log_spacing(grid: Grid, nodes: Tensor) -> Tensor:
    """Logarithm of the distance of the log-scales: it depends on alpha, so it is part of the likelihood."""
    return (grid.step * scale_unit()[nodes]).log()


def dispersion(index: Tensor, counts: Tensor, grid: Grid, best: int) -> Tensor:
    """Variance of the score, over what it would be if the series were independent, at least 1.

    The denominator is the curvature of the likelihood or, where that is smaller, the variance that the scores have
    in each series by themselves: near 2 the curvature is small or large by chance. The numerator is estimated from
    blocks of consecutive draws and from single draws, the larger counts: neither sees evidence that did not occur.
    """
    middle = max(_STENCIL, min(best, int((alpha_grid() < _STENCIL_BELOW).sum()) - 1))
    nodes = torch.tensor([middle - _STENCIL, middle, middle + _STENCIL])
    alpha, table = alpha_grid()[nodes].to(counts), grid.log_cells(nodes, counts.device)
    draws, alone = counts.new_zeros(len(index)), counts.new_zeros(())
    curve = len(counts) * _log_spacing(grid, nodes).to(counts)
    for cells, part in zip(grid.chunks(index, nodes, 1), grid.chunks(counts, nodes), strict=True):
        likelihood = log_likelihood(part, grid, nodes)
        curve = curve + likelihood.logsumexp(-1).sum(0)
        scores = _scores(likelihood, table, alpha).gather(1, cells.T.long())
        draws, alone = draws + scores.sum(0), alone + len(draws) * scores.var(1).sum()
    slope = (curve[1:] - curve[:-1]) / (alpha[1:] - alpha[:-1])
    curvature = 2 * (slope[0] - slope[1]) / (alpha[2] - alpha[0])
    blocks, single = _block_variance(draws), len(draws) * draws.var()
    return torch.stack([blocks / curvature, blocks / alone, single / alone]).amax().clamp(min=1.0)


def _scores(likelihood: Tensor, table: Tensor, alpha: Tensor) -> Tensor:
    """What a value in each cell adds to the score of its series, shape [series, cells + 1]; 0 for values left out.

    It is the derivative in alpha of the mean log-probability of the cell over the scales that are likely for the
    series, so it contains the change of these scales with alpha.
    """
    mean = torch.einsum("jak,akc->ajc", likelihood.softmax(-1), table)
    return torch.nn.functional.pad((mean[2] - mean[0]) / (alpha[2] - alpha[0]), (0, 1))


def _block_variance(draws: Tensor) -> Tensor:
    """Variance of the sum of the draws' scores, from their sums over consecutive blocks."""
    blocks = torch.stack([block.sum() for block in draws.tensor_split(_num_blocks(len(draws)))])
    return len(blocks) * blocks.var()


def _num_blocks(n: int) -> int:
    return min(_BLOCKS, n)


def threshold(n: int) -> float:
    """95 % point of a likelihood ratio that is divided by a dispersion estimated from the blocks of n draws."""
    return float(f_law.ppf(0.95, 1, _num_blocks(n) - 1))
