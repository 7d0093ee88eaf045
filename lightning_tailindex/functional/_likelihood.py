"""The likelihood of counts over tail index and scale."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ._counts import Cells
from ._tables import FIRST_OCTAVE, NUM_OCTAVES, alpha_grid, log_cells, log_cells_of, log_edges, scale_unit

# Distance of the scales in standard deviations of the scale: a sum over such points gives the integral of a Gaussian
# to 1e-5, and that of its square to 4e-3.
_SCALE_STEP = 1.25
_HALF = 6
_LARGEST_HALF = 320
_LONGEST_IN_SINGLE = 24  # half octaves of values in a series whose log-likelihood float32 holds to .001
_SERIES = 4096  # series whose likelihood is computed at once
LARGEST_EDGE = 1e-3  # share of the outermost scales up to which the grid is wide enough for a series
_SMALLEST = -40.0  # logarithms of likelihoods over the largest: denormal numbers would take a hundred times as long


@dataclass(frozen=True)
class Grid:
    """Scales at which the likelihood is evaluated: -half to half in units of ``step * scale_unit()``.

    Attributes:
        half: Number of scales on either side of the unit of the cells.
        step: Their distance, of the logarithm of the scale.
        per_octave: Cells an octave.
        in_single: Whether single precision is enough.
    """

    half: int
    step: float
    per_octave: int
    in_single: bool

    def widened(self) -> Grid:
        """The same scales and as many again on either side."""
        return replace(self, half=min(2 * self.half, _LARGEST_HALF))

    @property
    def is_widest(self) -> bool:
        """Whether widening has come to its end."""
        return self.half >= _LARGEST_HALF

    def table(self, nodes: Tensor, like: Tensor) -> Tensor:
        """Log-probabilities of the cells at some nodes of the grid of alpha, shape [scales, nodes, cells]."""
        return log_cells(self.half, self.step, self.per_octave)[nodes].transpose(0, 1).contiguous().to(like)

    def log_scales(self, nodes: Tensor, like: Tensor) -> Tensor:
        """Logarithms of the scales in the unit of the cells, by their median of |X|, shape [scales, nodes]."""
        places = torch.arange(-self.half, self.half + 1, dtype=torch.float64)
        return (places[:, None] * self.step * scale_unit()[nodes]).to(like)


def by_length(cells: Cells, per_octave: int) -> Iterator[tuple[Tensor, Grid]]:
    """Finds usable series of about the same number of values.

    Args:
        cells: The cells of all series.
        per_octave: Cells an octave.

    Yields:
        Indices of some of them, with the grid that suits these; lengths are rounded, so that few different tables
        are ever computed.
    """
    series = cells.usable.nonzero()[:, 0]
    halves = cells.num_values[series].double().log2().mul(2).round().long()
    for half in torch.unique(halves).tolist():
        step = _SCALE_STEP * 2.0 ** (-(half + 0.5) / 4)  # over the root of the most values that round to this
        yield series[halves == half], Grid(_HALF, step, per_octave, half <= _LONGEST_IN_SINGLE)


def in_chunks(series: Tensor) -> tuple[Tensor, ...]:
    """Splits series along dim 0, so that the likelihood of a chunk stays in the cache."""
    return torch.split(series, _SERIES)


def as_weights(counts: Tensor, grid: Grid) -> Tensor:
    """Counts [series, cells] in the precision that their likelihood needs."""
    return counts.to(torch.float32 if grid.in_single or counts.device.type == "mps" else torch.float64)


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihood of some series over scales and nodes of alpha, summed up over the scales.

    Attributes:
        largest: Its maximum over the scales of the grid, shape [nodes, series].
        relative: The likelihood over that maximum, shape [scales, nodes, series].
        mass: Sum of ``relative`` over the scales, shape [nodes, series].
    """

    largest: Tensor
    relative: Tensor
    mass: Tensor

    @property
    def profile(self) -> Tensor:
        r"""Maximum over all scales, shape [nodes, series].

        Where the likelihood is about Gaussian in the logarithm of the scale, of any width, the sums of it and of its
        square over evenly spaced scales give its height: :math:`M = \log \sum e^{2L} - \log \sum e^L + \log 2 / 2`.
        """
        return self.largest + (self.relative.square().sum(0) / self.mass).log() + math.log(2) / 2

    @property
    def marginal(self) -> Tensor:
        """Logarithm of the sum over the scales, shape [nodes, series]."""
        return self.largest + self.mass.log()

    @property
    def edge(self) -> Tensor:
        """Share of the outermost two scales, shape [nodes, series]: where it is not small, the grid is too narrow."""
        return (self.relative[0] + self.relative[-1]) / self.mass

    def best(self, values: Tensor) -> Tensor:
        """The values [scales, nodes] at the maximum over all scales, shape [nodes, series].

        The mean under the likelihood differs from it by skewness, that under its square by half as much.
        """
        square = self.relative.square()
        mean = torch.einsum("sk,ska->ka", values, self.relative) / self.mass
        return 2 * torch.einsum("sk,ska->ka", values, square) / square.sum(0) - mean


def likelihood(weights: Tensor, grid: Grid, nodes: Tensor) -> Likelihood:
    """Evaluates the likelihood of counts [series, cells] at some nodes of the grid of alpha."""
    return likelihood_of(weights, grid.table(nodes, weights))


def likelihood_of(weights: Tensor, table: Tensor) -> Likelihood:
    """Evaluates the likelihood of counts [series, cells] under log-probabilities [scales, nodes, cells]."""
    value = (table.flatten(0, 1) @ weights.T).reshape(*table.shape[:2], len(weights))
    largest = value.amax(0)
    relative = value.sub_(largest).clamp_(min=_SMALLEST).exp_()
    return Likelihood(largest, relative, relative.sum(0))


def log_spacing(grid: Grid, nodes: Tensor, like: Tensor) -> Tensor:
    """Logarithm of the distance of the log-scales: it depends on alpha, so it is part of an integral over them."""
    return (grid.step * scale_unit()[nodes]).log().to(like)


_WIDE_STEP = 0.1
_GAUSSIAN_MEDIAN = 0.6744897501960817  # of |X| at standard deviation 1


@lru_cache(maxsize=2)
def _gaussian_cells(per_octave: int) -> Tensor:
    """Log-probabilities of the cells for Gaussians of widely different scales, shape [scales, cells]."""
    log_scales = np.arange(-1, (FIRST_OCTAVE + NUM_OCTAVES) * math.log(2), _WIDE_STEP)
    limits = torch.as_tensor(np.exp(log_edges(per_octave) - log_scales[:, None]) * _GAUSSIAN_MEDIAN)
    return torch.as_tensor(log_cells_of((torch.special.log_ndtr(-limits) + math.log(2)).numpy()))


def gaussian_profile(weights: Tensor, per_octave: int) -> Tensor:
    """Maximal log-likelihood of Gaussians to .0025 nats a value, however far their scale is from the unit."""
    return (_gaussian_cells(per_octave).to(weights) @ weights.T).amax(0)


def coarse_nodes() -> Tensor:
    """Every fourth node of the grid of alpha, the first and the last among them."""
    return torch.arange(0, len(alpha_grid()), 4)


def fine_nodes(coarse: int) -> Tensor:
    """The nodes from the coarse one before to the coarse one after."""
    middle = int(coarse_nodes()[coarse])
    return torch.arange(max(middle - 4, 0), min(middle + 4, len(alpha_grid()) - 1) + 1)
