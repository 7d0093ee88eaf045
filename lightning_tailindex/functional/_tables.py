"""Probabilities of the cells that values are counted in, over a grid of tail indices and scales.

Nothing is stored with the package: the tables are computed from the formulas at first use (in less than a second)
and kept, so there is no file that could go stale.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from functools import lru_cache

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from torch import Tensor

from lightning_tailindex.distributions import SymmetricStable

# The first and the last cell are open; between them lie 4 or 8 cells an octave from 2 ** FIRST_OCTAVE to 2 ** 12.
FIRST_OCTAVE = -3
NUM_OCTAVES = 15
LOWEST_ALPHA = 0.2
LAST_NODE = 72
# Derivatives in alpha are differences between nodes so far from a middle, and the middle stays up to 1.957: nearer to 2
# a single value decides on them.
STENCIL = 2
HIGHEST_MIDDLE = LAST_NODE - 5
_HIGHEST_LOG = 33.0  # log |x| up to which products of a Gaussian's log-probabilities and counts are finite in float32
_LEAST = 1e-300  # probability that a cell has at least, given that it or one further out is reached
_KNOT_STEP = 0.08
_KNOTS = (-6.0, 12.0)


def like(x: Tensor, table: Callable[..., Tensor], *arguments: Hashable) -> Tensor:
    """What a function of plain arguments returns, in the precision of x and on its device, where it is kept."""
    return _moved(table, arguments, x.dtype, x.device)


@lru_cache(maxsize=128)
def _moved(
    table: Callable[..., Tensor], arguments: tuple[Hashable, ...], dtype: torch.dtype, device: torch.device
) -> Tensor:
    return table(*arguments).to(device, dtype)


def alpha_at(node: Tensor) -> Tensor:
    """Tail index at a node of the grid, or between nodes: from 0.2 at node 0 to exactly 2 at the last one.

    The nodes lie evenly in q = arccosh(2 / alpha), where estimates of all tail indices are about equally precise and
    the likelihood is even at alpha = 2.
    """
    alpha = 2 / torch.cosh((1 - node / LAST_NODE) * math.acosh(2 / LOWEST_ALPHA))
    return alpha.clamp(min=LOWEST_ALPHA)


@lru_cache(maxsize=1)
def alpha_grid() -> Tensor:
    """Tail indices at the nodes, ascending."""
    return alpha_at(torch.from_numpy(np.arange(LAST_NODE + 1.0)))


@lru_cache(maxsize=1)
def log_medians() -> Tensor:
    """Logarithm of the median of |X| at scale 1 for each tail index of the grid."""
    return SymmetricStable(alpha_grid()).icdf(0.75 * torch.ones_like(alpha_grid())).log()


def scale_unit(alpha: Tensor) -> Tensor:
    """About sqrt(n) times the standard deviation of an estimated log-scale."""
    return math.sqrt(2) / alpha


@lru_cache(maxsize=1)
def _spline() -> tuple[np.ndarray, np.ndarray]:
    """Cubic coefficients of log P(|X| > median * exp(y)) over y, and the distance of the knots, per tail index."""
    alpha = alpha_grid()
    knots = np.arange(*_KNOTS, _KNOT_STEP)
    stretch = alpha.clamp(max=1.0)
    x = torch.exp(torch.from_numpy(knots) / stretch[:, None] + log_medians()[:, None])
    log_s = SymmetricStable(alpha[:, None]).log_survival(x)
    return CubicSpline(knots, log_s.numpy(), axis=1).c, stretch.numpy()


def _log_survival(y: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """The same at any y of shape [nodes, ...], the last node among them: beyond the knots by the power laws there."""
    coefficients, stretch = _spline()
    shape = (-1,) + (1,) * (y.ndim - 1)
    alpha, stretch = alpha_grid().numpy()[nodes].reshape(shape), stretch[nodes].reshape(shape)
    eta = y * stretch
    last = _KNOTS[0] + _KNOT_STEP * coefficients.shape[1]
    inside = np.clip(eta, _KNOTS[0], last)
    piece = np.minimum(((inside - _KNOTS[0]) / _KNOT_STEP).astype(np.int64), coefficients.shape[1] - 1)
    rest = inside - (_KNOTS[0] + _KNOT_STEP * piece)
    c = coefficients[:, piece, nodes.reshape(shape)]
    value: np.ndarray = ((c[0] * rest + c[1]) * rest + c[2]) * rest + c[3]
    beyond = (eta - inside) / stretch
    value = value * np.exp(np.minimum(beyond, 0)) - alpha * np.maximum(beyond, 0)
    x = torch.from_numpy(np.exp(np.minimum(y[-1] + float(log_medians()[-1]), _HIGHEST_LOG)))
    # Without cancellation on either side, so that cells have a probability however wide the Gaussian is.
    tail = torch.special.log_ndtr(-x / math.sqrt(2)) + math.log(2)
    value[-1] = torch.where(x < 1, torch.log1p(-torch.erf(x / 2)), tail).numpy()
    return value


def log_edges(per_octave: int) -> np.ndarray:
    """Logarithms of the limits between the cells."""
    octave, place = np.divmod(np.arange(NUM_OCTAVES * per_octave + 1), per_octave)
    edges: np.ndarray = np.log((1 + place / per_octave) * 2.0 ** (octave + FIRST_OCTAVE))
    return edges


def log_cells_of(log_survival: np.ndarray) -> np.ndarray:
    """Log-probabilities of the cells, [..., cells], all finite, from finite log P(|X| > limit), [..., limits]."""
    first = np.log(np.maximum(-np.expm1(log_survival[..., :1]), _LEAST))
    within = -np.expm1(log_survival[..., 1:] - log_survival[..., :-1])
    inner = log_survival[..., :-1] + np.log(np.maximum(within, _LEAST))
    return np.concatenate([first, inner, log_survival[..., -1:]], axis=-1)


@lru_cache(maxsize=48)  # a measurement's groups and averages have series of many lengths
def log_cells(half: int, step: float, per_octave: int, stride: int) -> Tensor:
    """Log-probabilities of the cells at every so many-th node, [2 half + 1, nodes, cells], in float64 on the CPU.

    The first dimension is the logarithm u of the ratio of the law's median of |X| to the unit that values are
    counted in, from -half to half in units of ``step * scale_unit(alpha)``.
    """
    nodes = np.arange(0, LAST_NODE + 1, stride)
    u = scale_unit(alpha_grid()).numpy()[nodes, None] * (step * np.arange(-half, half + 1))
    cells = log_cells_of(_log_survival(log_edges(per_octave) - u[:, :, None], nodes))
    return torch.from_numpy(cells).transpose(0, 1).contiguous()
