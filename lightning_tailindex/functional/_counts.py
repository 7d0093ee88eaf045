"""From values to counts: centring, a rough unit for every series, and the cell that each value falls in."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from lightning_tailindex.kernels import compiled

from ._centers import Center, middle_and_unit, spacing
from ._checks import FEWEST_VALUES
from ._tables import FIRST_OCTAVE, NUM_OCTAVES
from .median import has_zeros

PER_OCTAVE = 4  # cells, unless more are asked for

# Values handled at once: what stays in the cache of a CPU, and what keeps a GPU busy.
_CHUNK = {"cpu": 1 << 18}
_CHUNK_ELSEWHERE = 1 << 26
_MOST_IN_SINGLE = 1 << 24  # counts that single precision holds
# Series that are counted at once where the draws of one do not lie together in memory.
_BLOCK = 256


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
        zero_share: Share of exact zeros, ties with the centre among them, shape [series]; NaN where a value is not
            finite.
        finite: Whether all values of the series are finite, shape [series].
        varies: Whether any two values of the series differ, shape [series].
        in_reach: Whether the cells tell the values' sizes apart, shape [series].
    """

    counts: Tensor
    index: Tensor
    middle: Tensor
    unit: Tensor
    num_values: Tensor
    zero_share: Tensor
    finite: Tensor
    varies: Tensor
    in_reach: Tensor

    def of(self, series: slice) -> Cells:
        """The cells of some series."""
        return Cells(*(getattr(self, field.name)[series] for field in fields(self)))

    @property
    def usable(self) -> Tensor:
        """Whether a series can be fitted, shape [series]."""
        return self.finite & self.varies & self.in_reach & (self.num_values >= FEWEST_VALUES)


def count_values(x: Tensor, center: Center, per_octave: int, *, keep_index: bool = False) -> Cells:
    """Centres the series of x, shape [n, series], and counts their values in cells, some to an octave."""
    n, task = len(x), _Task.of(x, center, per_octave, keep_index)
    if task.compiled:
        x, width = compiled.in_rows(x), max(x.shape[1], 1)
    else:
        width = max(1, len(task.values) // -(-n // spacing(n)))
        width = width - width % _BLOCK if width > _BLOCK else width
    counts = x.new_empty(x.shape[1], task.num_bins, dtype=torch.float32 if n <= _MOST_IN_SINGLE else torch.float64)
    chunks = zip(torch.split(x, width, dim=1), torch.split(counts, width), strict=True)
    parts = [_count(part, task, out) for part, out in chunks]
    index, middle, unit, finite, varies = (torch.cat(field) for field in zip(*parts, strict=True))
    dropped = 1 if center == "median" else 0  # the draw that is the centre
    num_values = (n - counts[:, 0]).long() * finite
    zero_share = (n - dropped - num_values).clamp(min=0).to(x.dtype) / max(n - dropped, 1)
    zero_share = torch.where(finite, zero_share, torch.nan)
    in_reach = (unit == 0) | (unit >= torch.finfo(unit.dtype).tiny)  # whose reciprocal is finite
    return Cells(counts[:, 1:], index, middle, unit, num_values, zero_share, finite, varies, in_reach)


@dataclass(frozen=True)
class _Task:
    """What is asked for, with memory for a chunk: fresh pages for each would take longer than the arithmetic.

    Attributes:
        center: What is subtracted.
        per_octave: Cells an octave.
        keep_index: Whether the bin of each value is kept.
        compiled: Whether compiled code counts, all at once and in single precision.
        values: For values of the sample, flat, as many as are handled at once.
        flags: For whether they are 0, flat.
    """

    center: Center
    per_octave: int
    keep_index: bool
    compiled: bool
    values: Tensor
    flags: Tensor

    @classmethod
    def of(cls, x: Tensor, center: Center, per_octave: int, keep_index: bool) -> _Task:
        """The task for x."""
        is_compiled = compiled.suit(x) and len(x) <= _MOST_IN_SINGLE
        most = 0 if is_compiled else _CHUNK.get(x.device.type, _CHUNK_ELSEWHERE)
        size = max(1, min(most, x.numel()))
        flags = torch.empty(size, dtype=torch.int32, device=x.device)
        return cls(center, per_octave, keep_index, is_compiled, x.new_empty(size), flags)

    @property
    def num_bins(self) -> int:
        """One for zeros, and the cells."""
        return NUM_OCTAVES * self.per_octave + 3

    @property
    def lowest(self) -> int:
        """What :meth:`bins` gives for zero."""
        return (127 + FIRST_OCTAVE) * self.per_octave - 1

    def bins(self, ratio: Tensor) -> Tensor:
        """The bin for zero, else the cell behind it, for values in units of their series; in place."""
        bits = leading_bits(ratio, self.per_octave)
        nonzero = torch.clamp(bits, max=1, out=self.flags[: bits.numel()].view(bits.shape))
        return bits.clamp_(self.lowest, self.lowest + self.num_bins - 2).add_(nonzero)


def _count(x: Tensor, task: _Task, counts: Tensor) -> tuple[Tensor, ...]:
    """Fills in counts of zeros and cells; bins of values, middle, unit, which series are finite, which vary."""
    middle, unit = middle_and_unit(x, task.center)
    factor = unit.clamp(min=torch.finfo(unit.dtype).tiny).reciprocal()
    if task.compiled:
        cells = {"shift": _shift(task.per_octave), "lowest": task.lowest}
        index, finite = compiled.count(x, middle, factor, counts, keep_index=task.keep_index, **cells)
    else:
        index, finite = _count_chunk(x, middle, factor, task, counts)
    alike = (unit == 0 if task.center == "median" else counts.amax(1) == len(x)).nonzero()[:, 0]
    varies = torch.ones_like(finite)
    if len(alike) > 0:
        varies = varies.index_copy(0, alike, (x[:, alike] != x[:1, alike]).any(0))
    return index, middle, unit, finite, varies


def _count_chunk(x: Tensor, middle: Tensor, factor: Tensor, task: _Task, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Fills in counts of zeros and cells; each value's bin if it is kept, and which series are finite."""
    step = _BLOCK if x.device.type == "cpu" else max(len(middle), 1)
    index = torch.empty(len(middle), len(x) * task.keep_index, dtype=torch.uint8, device=x.device)
    total = x.new_zeros(())
    for first in range(0, len(middle), step):
        own = slice(first, first + step)
        total = total + _count_block(x[:, own], middle[own], factor[own], task, counts[own], index[own])
    # Only where something looks wrong the values are gone through again: sums of finite values may be infinite.
    return index, torch.ones_like(middle, dtype=torch.bool) if bool(total.isfinite()) else x.isfinite().all(0)


def _count_block(x: Tensor, middle: Tensor, factor: Tensor, task: _Task, counts: Tensor, index: Tensor) -> Tensor:
    """The same for series whose counts stay in the first cache; a sum that is finite only if all values are."""
    series, lowest = len(counts), task.lowest
    first = torch.arange(series, dtype=torch.int32, device=x.device).mul_(task.num_bins).sub_(lowest)
    step, sums, total = max(1, len(task.values) // series), [], torch.zeros(0, dtype=torch.long, device=x.device)
    for place, part in enumerate(torch.split(x, step)):
        values = task.values[: part.numel()].view(part.shape).copy_(part)
        if has_zeros(values):
            values = torch.where(values == 0, middle, values)  # an exact zero is left out wherever the centre is
        ratio = values.sub_(middle).mul_(factor).float()
        sums.append(ratio.sum())
        bins = task.bins(ratio)
        if task.keep_index:
            index[:, place * step : place * step + len(part)] = (bins - lowest).T
        found = torch.bincount(bins.add_(first).flatten(), minlength=series * task.num_bins)
        total = found if place == 0 else total.add_(found)
    counts.copy_(total.view(counts.shape))
    return torch.stack(sums).sum()


def _shift(per_octave: int) -> int:
    """Bits of a number in single precision behind those that tell its cell."""
    return 24 - per_octave.bit_length()


def leading_bits(x: Tensor, per_octave: int) -> Tensor:
    """Exponent and first bits of the mantissa of |x|, float32, in place: a logarithm would take longer."""
    return x.abs_().view(torch.int32).bitwise_right_shift_(_shift(per_octave))
