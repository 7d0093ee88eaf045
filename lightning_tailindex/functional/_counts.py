"""From values to counts: centring, a rough unit for every series, and the cell that each value falls in."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor

from ._checks import FEWEST_VALUES
from ._tables import FIRST_OCTAVE, NUM_OCTAVES
from .median import has_zeros, quartiles

Center = Literal["median", "none"]

PER_OCTAVE = 4  # cells, unless more are asked for

# Values handled at once: what stays in the cache of a CPU, and what keeps a GPU busy.
_CHUNK = {"cpu": 1 << 18}
_CHUNK_ELSEWHERE = 1 << 26
# Draws of each series that its centre and its unit are taken from: all up to so many, one of each few beyond, at least
# one of sixteen.
_FEWEST_SORTED = 256
_WIDEST_SPACING = 16
# Where zeros leave fewer of these draws, all of a series' draws are looked at.
_FEWEST_NONZERO = 128
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
    width = max(1, len(task.values) // -(-n // spacing(n)))
    width = width - width % _BLOCK if width > _BLOCK else width
    counts = x.new_empty(x.shape[1], task.num_bins, dtype=torch.float32 if n <= 1 << 24 else torch.float64)
    chunks = zip(torch.split(x, width, dim=1), torch.split(counts, width), strict=True)
    parts = [_count(part, task, out) for part, out in chunks]
    index, middle, unit, finite, varies = (torch.cat(field) for field in zip(*parts, strict=True))
    dropped = 1 if center == "median" else 0  # the draw that is the centre
    num_values = (n - counts[:, 0]).long() * finite
    zero_share = (n - dropped - num_values).clamp(min=0).to(x.dtype) / max(n - dropped, 1)
    zero_share = torch.where(finite, zero_share, torch.nan)
    in_reach = (unit == 0) | (unit >= torch.finfo(unit.dtype).tiny)  # whose reciprocal is finite
    return Cells(counts[:, 1:], index, middle, unit, num_values, zero_share, finite, varies, in_reach)


def spacing(n: int) -> int:
    """Of how many draws, n in all, the centre and the unit are taken from one."""
    return min(-(-n // _FEWEST_SORTED), _WIDEST_SPACING)


@lru_cache(maxsize=64)
def _looked_at(n: int) -> Tensor:
    """Which draws these are: any of each few, because evenly spaced ones may all be of one kind of minibatches."""
    few = spacing(n)
    start = torch.arange(0, n, few, device="cpu")
    share = torch.rand(len(start), generator=torch.Generator().manual_seed(n), dtype=torch.float64, device="cpu")
    return start + (share * (n - start).clamp(max=few)).long()


@dataclass(frozen=True)
class _Task:
    """What is asked for, with memory for a chunk: fresh pages for each would take longer than the arithmetic.

    Attributes:
        center: What is subtracted.
        per_octave: Cells an octave.
        keep_index: Whether the bin of each value is kept.
        values: For values of the sample, flat, as many as are handled at once.
        flags: For whether they are 0, flat.
    """

    center: Center
    per_octave: int
    keep_index: bool
    values: Tensor
    flags: Tensor

    @classmethod
    def of(cls, x: Tensor, center: Center, per_octave: int, keep_index: bool) -> _Task:
        """The task for x."""
        size = max(1, min(_CHUNK.get(x.device.type, _CHUNK_ELSEWHERE), x.numel()))
        flags = torch.empty(size, dtype=torch.int32, device=x.device)
        return cls(center, per_octave, keep_index, x.new_empty(size), flags)

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
    rows = (x if spacing(len(x)) == 1 else x.index_select(0, _looked_at(len(x)).to(x.device))).T
    rows = rows.clone(memory_format=torch.contiguous_format)
    middle, unit = _middle_and_unit(rows, task.center)
    if rows.shape[1] < len(x) and has_zeros(rows):
        few = (rows.bool().sum(1) < _FEWEST_NONZERO).nonzero()[:, 0]
        for some in torch.split(few, max(1, len(task.values) // len(x))):
            found = _middle_and_unit(x.index_select(1, some).T.contiguous(), task.center)
            middle, unit = (old.index_copy(0, some, new) for old, new in zip((middle, unit), found, strict=True))
    tied = (unit == 0).nonzero()[:, 0]  # half of the draws are the same
    if len(tied) > 0:
        own = x[:, tied]
        distance = torch.where(own == 0, 0.0, (own - middle[tied]).abs())  # zeros are left out here too
        unit = unit.index_copy(0, tied, quartiles(distance.T.contiguous())[1])
    if task.keep_index and rows.shape[1] < len(x):
        rows = x.T.clone(memory_format=torch.contiguous_format)
    draws = 1 if rows.shape[1] == len(x) else 0
    index, total = _count_chunk(rows if draws else x, draws, middle, unit, task, counts)
    # Only where something looks wrong the values are gone through again.
    finite = torch.ones_like(unit, dtype=torch.bool) if bool(total.isfinite()) else x.isfinite().all(0)
    alike = (unit == 0 if task.center == "median" else counts.amax(1) == len(x)).nonzero()[:, 0]
    varies = torch.ones_like(finite)
    if len(alike) > 0:
        varies = varies.index_copy(0, alike, (x[:, alike] != x[:1, alike]).any(0))
    return index, middle, unit, finite, varies


def _middle_and_unit(rows: Tensor, center: Center) -> tuple[Tensor, Tensor]:
    """A draw in the middle of each series, and about the median distance from it, both of shape [series].

    Half the distance of the quartiles is that median where the law is symmetric, and takes no second sorting.
    """
    if center == "none":
        return rows.new_zeros(len(rows)), quartiles(rows.abs())[1]
    first, middle, third = quartiles(rows)
    return middle.contiguous(), third / 2 - first / 2  # in place among the sorted it would be read slowly, n times


def _count_chunk(
    x: Tensor, draws: int, middle: Tensor, unit: Tensor, task: _Task, counts: Tensor
) -> tuple[Tensor, Tensor]:
    """Fills in counts of zeros and cells; each value's bin if it is kept, and a sum that is finite if all values are.

    Draws lie along the dimension ``draws`` of x, which is overwritten if that is 1. The sum may be infinite where all
    values are finite.
    """
    factor = unit.clamp(min=torch.finfo(unit.dtype).tiny).reciprocal()
    step = max(len(unit), 1) if draws or x.device.type != "cpu" else _BLOCK
    index = torch.empty(len(unit), x.shape[draws] * task.keep_index, dtype=torch.uint8, device=x.device)
    total = x.new_zeros(())
    for first in range(0, len(unit), step):
        own = slice(first, first + step)
        block, center, scale = (
            x[own] if draws else x[:, own],
            middle[own].unsqueeze(draws),
            factor[own].unsqueeze(draws),
        )
        total = total + _count_block(block, draws, center, scale, task, counts[own], index[own])
    return index, total


def _count_block(
    x: Tensor, draws: int, middle: Tensor, factor: Tensor, task: _Task, counts: Tensor, index: Tensor
) -> Tensor:
    """The same for series whose counts stay in the first cache, with a middle and a factor that broadcast with x."""
    series, lowest = len(counts), task.lowest
    first = torch.arange(series, dtype=torch.int32, device=x.device).mul_(task.num_bins).sub_(lowest).unsqueeze(draws)
    step, sums, total = max(1, len(task.values) // series), [], torch.zeros(0, dtype=torch.long, device=x.device)
    for place, part in enumerate(torch.split(x, step, dim=draws)):
        values = part if draws else task.values[: part.numel()].view(part.shape).copy_(part)
        if has_zeros(values):
            values = torch.where(values == 0, middle, values)  # an exact zero is left out wherever the centre is
        ratio = values.sub_(middle).mul_(factor).float()
        sums.append(ratio.sum())
        bins = task.bins(ratio)
        if task.keep_index:
            index[:, place * step : place * step + part.shape[1]] = bins - lowest
        found = torch.bincount(bins.add_(first).flatten(), minlength=series * task.num_bins)
        total = found if place == 0 else total.add_(found)
    counts.copy_(total.view(counts.shape))
    return torch.stack(sums).sum()


def leading_bits(x: Tensor, per_octave: int) -> Tensor:
    """Exponent and first bits of the mantissa of |x|, float32, in place: a logarithm would take longer."""
    return x.abs_().view(torch.int32).bitwise_right_shift_(24 - per_octave.bit_length())
