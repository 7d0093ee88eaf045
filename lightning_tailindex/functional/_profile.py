"""The likelihood of counts over tail index and scale, and the fit of each series by itself."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._counts import Cells
from ._curves import interval, maximize
from ._tables import alpha_grid, log_cells, log_medians, scale_unit

# Distance of the scales in standard deviations of the scale of the longest series: a sum over such points gives
# the integral of a Gaussian to 1e-5, and a quartic through five of them its maximum.
_SCALE_STEP = 1.25
_LARGEST_HALF = 512  # reached by some 10^5 values a series; keeps a table below 40 MB
_CHUNK = 1 << 18  # likelihood values held at once: 2 MB stay in the cache
_CHI_SQUARE = 3.841458820694124


@dataclass(frozen=True)
class Grid:
    """Scales at which the likelihood is evaluated: -half to half in units of ``step * scale_unit()``."""

    half: int
    step: float

    def log_cells(self, nodes: Tensor, device: torch.device) -> Tensor:
        """Log-probabilities of the cells at some nodes of the grid of alpha, shape [nodes, scales, cells]."""
        return log_cells(self.half, self.step, device)[nodes.to(device)]

    def chunks(self, values: Tensor, nodes: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
        """Splits values along the dimension of the series, so that a chunk's likelihood fits into memory."""
        numbers = values.shape[dim] * len(nodes) * (2 * self.half + 1)
        return values.tensor_split(numbers // _CHUNK + 1, dim)


@dataclass(frozen=True)
class Fit:
    """A fit of the usable series: each field of shape [series], or [] except ``log_ratio`` where pooled.

    Attributes:
        alpha: Tail index.
        low: Lower end of its interval.
        high: Upper end of its interval.
        log_ratio: Logarithm of the scale in the unit of the cells.
        log_likelihood: Maximal log-likelihood.
        gain: Log-likelihood of a value above that at alpha = 2.
        effective_series: Effective number of series.
    """

    alpha: Tensor
    low: Tensor
    high: Tensor
    log_ratio: Tensor
    log_likelihood: Tensor
    gain: Tensor
    effective_series: Tensor


_COARSE = Grid(half=20, step=0.2)


def choose_grid(counts: Tensor) -> Grid:
    """Finds scales that hold the likelihood of every series, and are close enough for the longest.

    Step and half are rounded, so that few different tables are ever computed.
    """
    total, nodes = counts.sum(1), torch.arange(0, len(alpha_grid()), 11)
    furthest = torch.stack(
        [
            (log_likelihood(part, _COARSE, nodes).argmax(-1) - _COARSE.half).abs().max()
            for part in _COARSE.chunks(counts, nodes)
        ]
    ).max()
    distance, longest, shortest = torch.stack([furthest.to(total), total.max(), total.min()]).tolist()
    step = 2.0 ** (math.floor(2 * math.log2(_SCALE_STEP / math.sqrt(longest))) / 2)
    width = (distance + 0.5) * _COARSE.step + 4 / math.sqrt(shortest)
    half = 4 * math.ceil(width / step / 4)
    return Grid(half, step) if half <= _LARGEST_HALF else Grid(_LARGEST_HALF, width / _LARGEST_HALF)


def log_likelihood(counts: Tensor, grid: Grid, nodes: Tensor) -> Tensor:
    """Log-likelihood of counts [series, cells], shape [series, nodes, scales]."""
    table = grid.log_cells(nodes, counts.device)
    return (counts @ table.flatten(0, 1).T).reshape(len(counts), *table.shape[:2])


def best_scale(likelihood: Tensor, grid: Grid, nodes: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum over the scales, by a quartic, and the log-scale there in the unit of the cells: [series, nodes]."""
    best = likelihood.argmax(-1, keepdim=True).clamp(2, 2 * grid.half - 2)
    shift, value = _peak_of_quartic(*(likelihood.gather(-1, best + k)[..., 0] for k in (-2, -1, 0, 1, 2)))
    u = (best[..., 0] + shift - grid.half) * grid.step * scale_unit()[nodes].to(likelihood)
    return value, u - log_medians()[nodes].to(likelihood)


def _peak_of_quartic(a: Tensor, b: Tensor, c: Tensor, d: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
    """Place and value of the maximum of the quartic through values at -2 to 2, one Newton step from a parabola's."""
    first, third = (8 * (d - b) - (e - a)) / 12, ((e - a) - 2 * (d - b)) / 12
    second, fourth = (16 * (b + d) - (a + e) - 30 * c) / 24, ((a + e) - 4 * (b + d) + 6 * c) / 24
    bend = 2 * c - b - d
    t = torch.where(bend > 0, (d - b) / (2 * bend), 0.0).clamp(-1, 1)
    slope = first + t * (2 * second + t * (3 * third + t * 4 * fourth))
    curvature = 2 * second + t * (6 * third + t * 12 * fourth)
    t = torch.where(curvature < 0, t - slope / curvature, t).clamp(-1, 1)
    return t, c + t * (first + t * (second + t * (third + t * fourth)))


def between(values: Tensor, alpha: Tensor, at: Tensor) -> Tensor:
    """Linear interpolation of values [series, nodes] over ascending alpha at one place a series."""
    right = torch.searchsorted(alpha, at.contiguous()).clamp(1, len(alpha) - 1)
    weight = (at - alpha[right - 1]) / (alpha[right] - alpha[right - 1])
    left_value, right_value = (values.gather(1, k[:, None])[:, 0] for k in (right - 1, right))
    return left_value + weight * (right_value - left_value)


def fit_each(cells: Cells) -> Fit:
    """Fits every usable series by itself, its interval by the profile likelihood."""
    counts = cells.counts[cells.usable]
    if len(counts) == 0:
        nothing = counts.sum(1)
        return Fit(nothing, nothing, nothing, nothing, nothing, nothing, nothing)
    grid, nodes = choose_grid(counts), torch.arange(len(alpha_grid()))
    parts = [best_scale(log_likelihood(part, grid, nodes), grid, nodes) for part in grid.chunks(counts, nodes)]
    curve, log_ratio = (torch.cat(p) for p in zip(*parts, strict=True))
    alpha = alpha_grid().to(curve)
    top = maximize(curve, alpha)
    low, high = interval(curve, alpha, top, _CHI_SQUARE)
    gain = (top.value - curve[:, -1]) / counts.sum(1)
    return Fit(
        top.alpha, low, high, between(log_ratio, alpha, top.alpha), top.value, gain, torch.full_like(gain, math.nan)
    )
