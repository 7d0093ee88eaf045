"""Other laws than the stable one on the same cells: Student's t and Laplace's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from scipy.special import stdtr, stdtrit
from torch import Tensor

from ._counts import Cells
from ._curves import maximize
from ._grid import Grid
from ._likelihood import LARGEST_EDGE, Likelihood, as_weights, in_chunks, laplace_profile
from ._series import Series, parts
from ._tables import alpha_grid, like, log_cells_of, log_edges

# Degrees of freedom: from tails heavier than any stable law here to what 10,000 values do not tell from a Gaussian.
_NUM_SHAPES = 17
_FREEDOM = (0.25, 40.0)
_LEAST = 1e-300  # probability that a value lies beyond a limit has at least, so that its logarithm is finite


@lru_cache(maxsize=1)
def degrees_of_freedom() -> Tensor:
    """Degrees of freedom at which Student's law is evaluated, evenly spaced on a logarithmic scale."""
    return torch.from_numpy(np.geomspace(*_FREEDOM, _NUM_SHAPES))


@lru_cache(maxsize=16)
def student_t(half: int, step: float, per_octave: int) -> Tensor:
    """Log-probabilities of the cells, [scales, shapes, cells], on the scales of :func:`._tables.log_cells`.

    The unit of the scales is this law's own.
    """
    freedom = degrees_of_freedom().numpy()[:, None, None]
    u = np.exp(_student_t_spacings(step).numpy())[:, None, None] * np.arange(-half, half + 1)[:, None]
    size = stdtrit(freedom, 0.75) * np.exp(log_edges(per_octave) - u)
    log_survival = np.log(np.maximum(2 * stdtr(freedom, -size), _LEAST))
    return torch.from_numpy(log_cells_of(log_survival)).transpose(0, 1).contiguous()


def _student_t_spacings(step: float) -> Tensor:
    """Logarithms of the distances of the log-scales, [shapes]: over the root of the law's Fisher information."""
    freedom = degrees_of_freedom()
    return (step * ((freedom + 3) / (2 * freedom)).sqrt()).log()


@lru_cache(maxsize=16)
def laplace(half: int, step: float, per_octave: int) -> Tensor:
    """The same for Laplace's law, which has one shape."""
    u = step * np.arange(-half, half + 1)[:, None, None]
    log_survival = -math.log(2) * np.exp(log_edges(per_octave) - u)
    return torch.from_numpy(log_cells_of(log_survival))


def _both(weights: Tensor, grid: Grid) -> tuple[Likelihood, Likelihood]:
    """The likelihood of counts [series, cells] under both laws."""
    tables = (like(weights, law, grid.half, grid.step, grid.per_octave) for law in (student_t, laplace))
    student, laplacian = (Likelihood(weights, table) for table in tables)
    return student, laplacian


def profiles(cells: Cells, classes: Sequence[Series]) -> Tensor:
    """Maximal log-likelihoods of Student's and Laplace's law for each series, [2, series]; NaN for unusable ones."""
    out = cells.counts.new_full((2, len(cells.counts)), math.nan, dtype=torch.float64)
    for series in classes:
        for some, weights, _ in parts(cells.counts, series, 1):
            student, laplacian = _both(weights, some.grid)
            laplacian_profile = torch.where(
                laplacian.edge[0] > LARGEST_EDGE, laplace_profile(weights, some.grid.per_octave), laplacian.profile[0]
            )
            out[:, some.index] = torch.stack([maximize(student.profile)[1], laplacian_profile]).double()
    return out


def marginals(cells: Cells, classes: Sequence[Series], num_groups: int) -> Tensor:
    """The same for the series of each group together, with one shape for them and their scales integrated out."""
    total = cells.counts.new_zeros(_NUM_SHAPES + 1, num_groups, dtype=torch.float64)
    for series in classes:
        spacings = like(total, _student_t_spacings, series.grid.step)[:, None]
        for some, weights, summed in parts(cells.counts, series, num_groups):
            student, laplacian = _both(weights, some.grid)
            width = (2 * math.pi / weights.sum(1)).log() / 2  # of the likelihood, whose curvature is one for each value
            laplacian_marginal = torch.where(
                laplacian.edge > LARGEST_EDGE,
                laplace_profile(weights, some.grid.per_octave) + width,
                laplacian.marginal + math.log(some.grid.step),
            )
            total += summed(torch.cat([student.marginal + spacings, laplacian_marginal]))
    return torch.stack([maximize(total[:-1])[1], total[-1]])


def expected_counts(cells: Cells, classes: Sequence[Series], alpha: Tensor) -> Tensor:
    """Counts that stable laws of given tail indices [series] lead to expect, shape [series, cells].

    At the nearest node of the grid, over the scales that are likely for each series; NaN where alpha is.
    """
    expected = cells.counts.new_full(cells.counts.shape, math.nan, dtype=torch.float64)
    between = (alpha_grid()[1:] + alpha_grid()[:-1]) / 2
    nearest = torch.searchsorted(between, alpha.double().cpu().contiguous()).to(alpha.device)
    for series in classes:
        own = nearest[series.index]
        for k in torch.unique(own).tolist():
            for index in in_chunks(series.index[own == k], series.grid):
                _expect(cells.counts, index, series.grid.over(range(k, k + 1)), expected)
    return torch.where(alpha.isnan()[:, None], math.nan, expected)


def _expect(counts: Tensor, index: Tensor, grid: Grid, expected: Tensor) -> None:
    """Fills in what some series lead to expect at the one node of a grid, on scales that are wide enough for each."""
    weights = as_weights(counts, index, grid)
    table = grid.table(weights)
    part = Likelihood(weights, table)
    narrow = (part.edge[0] > LARGEST_EDGE) & (not grid.is_widest)
    if bool(narrow.any()):
        _expect(counts, index[narrow], grid.widened(), expected)
    share = torch.einsum("sj,sc->jc", part.relative[:, 0] / part.mass[0], table[:, 0].exp())
    found, own = (share * weights.sum(1, keepdim=True)).double(), (~narrow).nonzero()[:, 0]
    expected.index_copy_(0, index.index_select(0, own), found.index_select(0, own))
