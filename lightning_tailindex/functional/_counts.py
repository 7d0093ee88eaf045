"""From values to counts: centring, a rough unit for every series, and the cell that each value falls in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ._checks import FEWEST_VALUES
from ._tables import FIRST_OCTAVE, NUM_CELLS
from .median import nonzero_median

# Values that are turned into counts at once: what bounds the memory beyond one byte a value.
_CHUNK = 1 << 23


@dataclass(frozen=True)
class Cells:
    """The values of each series as cells, with what was left out.

    Attributes:
        index: Cell of each value in uint8, shape [n, series]; ``NUM_CELLS`` where the value is left out.
        counts: Numbers of values in each cell, float64, shape [series, cells].
        unit: Median of the non-zero |x| of each series, shape [series]: what the cells are multiples of.
        num_values: Finite, non-zero values, shape [series].
        zero_share: Share of exact zeros, shape [series]; NaN where a value is not finite.
        finite: Whether all values of the series are finite, shape [series].
        varies: Whether any two values of the series differ, shape [series].
    """

    index: Tensor
    counts: Tensor
    unit: Tensor
    num_values: Tensor
    zero_share: Tensor
    finite: Tensor
    varies: Tensor

    @property
    def usable(self) -> Tensor:
        """Whether a series can be fitted, shape [series]."""
        return self.finite & self.varies & (self.num_values >= FEWEST_VALUES)


def count_values(x: Tensor, center: Literal["median", "none"]) -> Cells:
    """Centres the series of x, shape [n, series], and counts their values in cells."""
    parts = [_count(part, center) for part in x.tensor_split(x.numel() // _CHUNK + 1, dim=1)]
    return Cells(*(torch.cat([p[i] for p in parts], dim=-1 if i == 0 else 0) for i in range(7)))


def _count(x: Tensor, center: Literal["median", "none"]) -> tuple[Tensor, ...]:
    n, finite, varies = len(x), x.isfinite().all(0), (x != x[0]).any(0)
    dropped, present = 0, x != 0
    if center == "median":
        dropped, x = 1, x - nonzero_median(x)
    size = x.abs()
    nonzero = present & (size > 0) & finite
    num_values = nonzero.sum(0)
    middle = (n - num_values + (num_values - 1).clamp(min=0) // 2).clamp(max=n - 1)
    unit = torch.where(nonzero, size, 0.0).sort(0).values.gather(0, middle[None])[0]
    index = torch.where(nonzero, _cells(size / unit), NUM_CELLS)
    zero_share = (n - dropped - num_values).clamp(min=0).to(x.dtype) / max(n - dropped, 1)
    zero_share = torch.where(finite, zero_share, torch.nan)
    if index.device.type == "mps":  # which has no float64; counts are small
        index = index.cpu()
    return index.to(torch.uint8), _histogram(index), unit, num_values, zero_share, finite, varies


def _cells(ratio: Tensor) -> Tensor:
    """Cells by the exponent and the first two bits of the mantissa: four an octave, without a logarithm."""
    bits = ratio.float().view(torch.int32) >> 21
    return (bits - ((127 + FIRST_OCTAVE) * 4 - 1)).clamp(0, NUM_CELLS - 1)


def _histogram(index: Tensor) -> Tensor:
    series = index.shape[1]
    row = torch.arange(series, device=index.device) * (NUM_CELLS + 1)
    counts = torch.bincount((index + row).flatten(), minlength=series * (NUM_CELLS + 1))
    return counts.reshape(series, NUM_CELLS + 1)[:, :NUM_CELLS].double()
