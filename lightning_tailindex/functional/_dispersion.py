"""How much less the series of a group tell than independent ones would: they share their draws."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from ._counts import Cells
from ._likelihood import Likelihood, as_weights
from ._precision import for_products
from ._search import Groups
from ._series import Series
from ._tables import HIGHEST_MIDDLE, STENCIL, alpha_grid, like
from ._windows import WIDTH, Windows

# In simulated noise whose coordinates are stable together, with 20, 300 or infinitely many sources behind 300 of them,
# the variance of the score at its true index is 90 to 140 times that of independent ones, for an index of 1.3 to 1.95.
_INDEPENDENT_TAILS = 3
_MOST_DRAWS = 1024
_MOST_SERIES = 512
_CLIP = 4.0


def dispersion(groups: Groups, windows: Windows, wanted: Tensor, alpha: Tensor) -> Tensor:
    """Variance of the pooled scores, over what it would be if the series were independent, at least 1.

    It is measured on the draws. Where tails are nearly Gaussian the draws need not contain the rare large ones that
    come to all coordinates at once, and that only the correlations of the ordinary ones announce: then it is no less
    than what it is for coordinates whose law is stable together.

    Args:
        groups: The groups, with the cell of each value.
        windows: The likelihood around their maxima.
        wanted: For which groups it is wanted, shape [groups].
        alpha: The estimates, shape [groups]; NaN for a group without usable series.

    Returns:
        The dispersions, shape [groups].
    """
    draws, alone = _scores(groups.cells, windows, wanted, alpha)
    measured = draws.square().sum(1) / alone
    classes = [series.of(wanted) for series in groups.search.classes]
    return torch.fmax(measured, _together(groups.x, groups.cells, classes, len(alpha))).clamp(min=1.0)


def _scores(cells: Cells, windows: Windows, wanted: Tensor, alpha: Tensor) -> tuple[Tensor, Tensor]:
    """Scores of the draws, [groups, n], and what the sums of their squares would be by independence, [groups].

    The score of a value is the derivative in alpha of the mean log-probability of its cell over the scales that are
    likely for the series, so it contains the change of these scales with alpha.
    """
    draws = cells.counts.new_zeros(len(alpha), cells.index.shape[1], dtype=torch.float64)
    alone = draws.new_zeros(len(alpha))
    middle = torch.searchsorted(like(alpha, alpha_grid), alpha).clamp(STENCIL, HIGHEST_MIDDLE)
    middle = (middle - windows.start).clamp(STENCIL, WIDTH - STENCIL)
    for part in windows.parts:
        group = part.series.group
        nodes = torch.where(wanted, middle, -1)[group]
        for k in torch.unique(nodes[nodes >= 0]).tolist():
            own = (nodes == k).nonzero()[:, 0]
            values = _values(cells, part.series, own, k)
            draws.index_add_(0, group[own], values.double())
            alone.index_add_(0, group[own], values.square().sum(1).double())
    return draws, alone


def _values(cells: Cells, series: Series, own: Tensor, middle: int) -> Tensor:
    """The scores of the single values of some of the series, [series, n], at a node of the window.

    Their mean over the series, which is not 0 beside the maximum, is subtracted; where a value is left out they are 0.
    """
    index, grid = series.index[own], series.grid
    weights = as_weights(cells.counts, index, grid)
    table = grid.table(weights)[:, middle - STENCIL : middle + STENCIL + 1 : 2 * STENCIL]
    relative = Likelihood(weights, table).relative
    below, above = torch.einsum("skj,skc->kjc", relative / relative.sum(0), table)
    scores = above - below
    mean = (scores * weights).sum(1) / cells.num_values[index]
    return pad(scores - mean[:, None], (1, 0)).gather(1, cells.index.index_select(0, index).long())


def _together(x: Tensor, cells: Cells, classes: Sequence[Series], num_groups: int) -> Tensor:
    """Dispersions of stable vectors with as many coordinates, where the series are correlated, [groups]."""
    index, group = (torch.cat([getattr(series, name) for series in classes]) for name in ("index", "group"))
    sizes = group.bincount(minlength=num_groups)
    own = torch.split(index[group.sort(stable=True).indices], sizes.tolist())
    some = [series[:: -(-max(len(series), 1) // _MOST_SERIES)] for series in own]
    values = _clipped(x, cells, torch.cat(some))
    parts = zip(*(torch.split(each, [len(series) for series in some], dim=1) for each in values), strict=True)
    return torch.stack([dependence(*part) for part in parts]) * sizes / _INDEPENDENT_TAILS


def _clipped(x: Tensor, cells: Cells, index: Tensor) -> tuple[Tensor, Tensor]:
    """Clipped values of some series in their units, and which of them are not left out, each [draws, series]."""
    draws = slice(None, None, -(-len(x) // _MOST_DRAWS))
    z = ((x[draws].index_select(1, index) - cells.middle[index]) / cells.unit[index]).clamp(-_CLIP, _CLIP)
    return z, cells.index[:, draws].index_select(0, index).T != 0


def dependence(values: Tensor, present: Tensor) -> Tensor:
    r"""Whether series are correlated, from 0, as chance makes them, to 1, beyond chance.

    The sum over all pairs of the squared correlations, over the number of series, is by chance (series - 1) / (n - 1)
    with a standard deviation of 2 / (n - 1). With :math:`n_i` values in a series and :math:`n_{ij}` draws at which two
    have one, n is what makes 1 / n the mean of :math:`n_{ij} / (n_i n_j)` over all pairs.

    Args:
        values: Values of about one size, ``[draws, series]``.
        present: Which of them count.
    """
    d, sizes = values.shape[1], present.sum(0)
    weights = present / sizes.clamp(min=1)
    z = torch.where(present, values, 0.0)
    z = for_products(torch.nn.functional.normalize(torch.where(present, z - z.sum(0) / sizes, 0.0), dim=0))
    squares = (z.T @ z if d < len(z) else z @ z.T).square().sum().double()
    together = weights.sum(1).square().sum().double() - (1 / sizes.double()).sum()
    n = (d * (d - 1) / together).nan_to_num().clamp(max=len(z))  # but for series of which no two share draws
    excess = (squares / max(d, 1) - 1) * (n - 1) - (d - 1)
    return (excess / 6 - 1).clamp(0, 1)
