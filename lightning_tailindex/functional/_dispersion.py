"""How much less the series of a group tell than independent ones would: they share their draws."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from ._counts import Cells
from ._likelihood import as_weights, in_chunks, likelihood
from ._series import Series
from ._tables import alpha_grid

_STENCIL = 2  # nodes from the middle to the ends of the differences that stand for derivatives in alpha
_HIGHEST = 1.965  # where the middle stays: nearer to 2 a single value decides on the derivatives
# In simulated noise whose coordinates are stable together, with 20, 300 or infinitely many sources behind 300 of them,
# the variance of the score at its true index is 90 to 140 times that of independent ones, for an index of 1.3 to 1.95.
_INDEPENDENT_TAILS = 3
_MOST_DRAWS = 1024
_MOST_SERIES = 512
_CLIP = 4.0


def dispersion(x: Tensor, cells: Cells, series: Sequence[Series], alpha: float) -> Tensor:
    """Variance of the pooled score, over what it would be if the series were independent, at least 1.

    It is measured on the draws. Where tails are nearly Gaussian the draws need not contain the rare large ones that
    come to all coordinates at once, and that only the correlations of the ordinary ones announce: then it is no less
    than what it is for coordinates whose law is stable together.

    Args:
        x: The values, shape [n, all series].
        cells: Their cells.
        series: The usable series of the group.
        alpha: The estimate.

    Returns:
        The dispersion, shape [].
    """
    draws, alone = _scores(cells, series, alpha)
    index = torch.cat([part.index for part in series])
    together = dependence(x, cells, index) * len(index) / _INDEPENDENT_TAILS
    return torch.maximum(len(draws) * draws.var() / alone, together).clamp(min=1.0)


def _scores(cells: Cells, series: Sequence[Series], alpha: float) -> tuple[Tensor, Tensor]:
    """Scores of the draws, [n], and the variance that their sum would have if the series were independent, [].

    The score of a value is the derivative in alpha of the mean log-probability of its cell over the scales that are
    likely for the series, so it contains the change of these scales with alpha.
    """
    middle = max(_STENCIL, int((alpha_grid() <= min(alpha, _HIGHEST)).sum()) - 1)
    nodes = torch.tensor([middle - _STENCIL, middle + _STENCIL])
    draws = cells.counts.new_zeros(cells.index.shape[1], dtype=torch.float64)
    alone = draws.new_zeros(())
    for part in series:
        for index in in_chunks(part.index):
            weights = as_weights(cells.counts[index], part.grid)
            fit = likelihood(weights, part.grid, nodes)
            mean = torch.einsum("skj,skc->kjc", fit.relative / fit.mass, part.grid.table(nodes, weights))
            values = pad(mean[1] - mean[0], (1, 0)).gather(1, cells.index[index].long())
            draws += values.sum(0)
            alone += values.square().sum() - values.sum(1).square().sum() / len(draws)
    return draws, alone * len(draws) / (len(draws) - 1)


def dependence(x: Tensor, cells: Cells, index: Tensor) -> Tensor:
    """Whether series are correlated, from 0, as chance makes independent ones, to 1, beyond chance; shape [].

    The sum over all pairs of the squared correlations of clipped values, over the number of series, is by chance
    (series - 1) / (n - 1) with a standard deviation of 2 / (n - 1).
    """
    index = index[:: -(-len(index) // _MOST_SERIES)]
    draws = slice(None, None, -(-len(x) // _MOST_DRAWS))
    z = ((x[draws, index] - cells.middle[index]) / cells.unit[index]).clamp(-_CLIP, _CLIP)
    z = torch.where(cells.index[index, draws].T == 0, 0.0, z)
    z = z - z.mean(0)
    z = torch.nn.functional.normalize(z, dim=0)
    n, d = z.shape
    squares = (z.T @ z if d < n else z @ z.T).square().sum().double()
    excess = (squares / d - 1) * (n - 1) - (d - 1)
    return (excess / 6 - 1).clamp(0, 1)
