"""From values to counts: centring, a rough unit for every series, and the cell that each value falls in."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from ._checks import FEWEST_VALUES
from ._tables import FIRST_OCTAVE, NUM_OCTAVES
from .median import has_zeros, quartiles

Center = Literal["median", "none"]

# Values handled at once: what stays in the cache of a CPU, and what keeps a GPU busy.
_CHUNK = {"cpu": 1 << 18}
_CHUNK_ELSEWHERE = 1 << 26
# Draws of each series that its centre and its unit are taken from: all of them up to here, evenly spaced ones beyond.
_MOST_SORTED = 512


@dataclass(frozen=True)
class Cells:
    """The values of each series as counts, with what was left out.

    Attributes:
        counts: Numbers of values in each cell, exact in float32 or float64, shape [series, cells].
        index: Cell of each value plus 1, or 0 where the value is left out, in uint8, shape [series, n]; empty,
            [series, 0], unless it was asked for.
        middle: The draw in the middle of each series that was subtracted, or 0, shape [series].
        unit: About the median of the non-zero |x| of each series, shape [series]: what the cells are multiples of.
        num_values: Finite, non-zero values, shape [series].
        zero_share: Share of exact zeros, shape [series]; NaN where a value is not finite.
        finite: Whether all values of the series are finite, shape [series].
        varies: Whether any two values of the series differ, shape [series].
    """

    counts: Tensor
    index: Tensor
    middle: Tensor
    unit: Tensor
    num_values: Tensor
    zero_share: Tensor
    finite: Tensor
    varies: Tensor

    def of(self, series: slice) -> Cells:
        """The cells of some series."""
        return Cells(*(getattr(self, field.name)[series] for field in fields(self)))

    @property
    def usable(self) -> Tensor:
        """Whether a series can be fitted, shape [series]."""
        return self.finite & self.varies & (self.num_values >= FEWEST_VALUES)


def count_values(x: Tensor, center: Center, per_octave: int, *, keep_index: bool = False) -> Cells:
    """Centres the series of x, shape [n, series], and counts their values in cells, some to an octave."""
    width = max(1, _chunk(x.device) // min(len(x), _MOST_SORTED))
    parts = [_count(part, center, per_octave, keep_index) for part in torch.split(x, width, dim=1)]
    counts, index, middle, unit, low, high = (torch.cat(field) for field in zip(*parts, strict=True))
    finite, varies = low.isfinite() & high.isfinite(), low != high
    n, dropped = len(x), 1 if center == "median" else 0  # the draw that is the centre
    num_values = (n - counts[:, 0]).long() * finite
    zero_share = (n - dropped - num_values).clamp(min=0).to(x.dtype) / max(n - dropped, 1)
    zero_share = torch.where(finite, zero_share, torch.nan)
    return Cells(counts[:, 1:], index, middle, unit, num_values, zero_share, finite, varies)


def _chunk(device: torch.device) -> int:
    return _CHUNK.get(device.type, _CHUNK_ELSEWHERE)


def _count(x: Tensor, center: Center, per_octave: int, keep_index: bool) -> tuple[Tensor, ...]:
    """Counts of zeros and cells, each value's bin if it is to be kept, middle, unit, smallest and largest value."""
    low, high = x.amin(0), x.amax(0)
    rows = x[:: -(-len(x) // _MOST_SORTED)].T.contiguous()
    middle, unit = _middle_and_unit(rows, center)
    tied = (unit == 0).nonzero()[:, 0]  # half of the draws are the same
    if len(tied) > 0:
        unit = unit.index_copy(0, tied, quartiles((x[:, tied] - middle[tied]).abs().T.contiguous())[1])
    by_series = keep_index or len(x) <= _MOST_SORTED
    if by_series and len(x) > _MOST_SORTED:
        rows = x.T.contiguous()
    series = (slice(None), None) if by_series else (None, slice(None))
    values, middles, units = rows if by_series else x, middle[series], unit[series]
    if has_zeros(values):
        values = torch.where(values == 0, middles, values)  # an exact zero is left out wherever the centre is
    counts, index = _bins(values, middles, units, int(by_series), per_octave, keep_index)
    return counts, index, middle, unit, low, high


def _middle_and_unit(rows: Tensor, center: Center) -> tuple[Tensor, Tensor]:
    """A draw in the middle of each series, and about the median distance from it, both of shape [series].

    Half the distance of the quartiles is that median where the law is symmetric, and takes no second sorting.
    """
    if center == "none":
        return rows.new_zeros(len(rows)), quartiles(rows.abs())[1]
    first, middle, third = quartiles(rows)
    return middle, third / 2 - first / 2


def _bins(
    x: Tensor, middle: Tensor, unit: Tensor, draw: int, per_octave: int, keep_index: bool
) -> tuple[Tensor, Tensor]:
    """Counts of zeros and of the cells behind them, and each value's place among them; draws along ``draw``."""
    series, num_bins = unit.numel(), NUM_OCTAVES * per_octave + 3
    first = (torch.arange(series, dtype=torch.int32, device=x.device) * num_bins).reshape(unit.shape)
    total, index = torch.zeros((), dtype=torch.long, device=x.device), []
    for part in torch.split(x, max(1, _chunk(x.device) // max(series, 1)), dim=draw):
        bins = _bin((part - middle).div_(unit).float(), per_octave)
        if keep_index:
            index.append(bins.to(torch.uint8))
        total = total + torch.bincount(bins.add_(first).flatten(), minlength=series * num_bins)
    kept = torch.cat(index, dim=1) if keep_index else torch.empty(series, 0, dtype=torch.uint8, device=x.device)
    return total.reshape(series, num_bins).to(torch.float32 if x.numel() <= 1 << 24 else torch.float64), kept


def _bin(ratio: Tensor, per_octave: int) -> Tensor:
    """Bin 0 for zero, else the cell plus 1: the exponent and the first bits of the mantissa, without a logarithm."""
    bits = ratio.view(torch.int32).bitwise_and_(0x7FFFFFFF)
    bits = bits.bitwise_right_shift_(24 - per_octave.bit_length())
    nonzero = bits.clamp(max=1)
    lowest = (127 + FIRST_OCTAVE) * per_octave - 1
    return bits.clamp_(lowest, lowest + NUM_OCTAVES * per_octave + 1).sub_(lowest).add_(nonzero)
