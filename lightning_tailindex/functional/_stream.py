"""Counts that add over time and over processes, and the fit to them.

The cells of the other modules are multiples of a unit that only all draws tell. Those of a stream are absolute: a few
an octave, from the exponent and the first bits of the mantissa. A unit that is a power of two shifts the ones onto the
others exactly, so that nothing is lost by choosing it in the end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from lightning_tailindex.records import TailIndexEstimate

from ._checks import FEWEST_VALUES
from ._counts import Cells, leading_bits
from ._each import fit_each
from ._estimates import estimate_each, estimate_groups
from ._pooled import Pooled
from ._search import Groups, search
from ._tables import FIRST_OCTAVE, NUM_OCTAVES

StreamCenter = Literal["pairs", "none"]

# |x| is told apart from 2 ** -80 to 2 ** 48; what lies beyond is counted in the first and in the last cell.
_FIRST = -80
_OCTAVES = 128
_MOST_BEYOND = 0.03  # share of a series' values that may lie there
_MOST_SHIFTED = 1  # octaves that the unit may lie below the median where the last cell leaves it no more room
_EXPONENT_BIAS = 127
_INFINITE_EXPONENT = 255
# Values of a series that are fitted as they are: scales of finer grids would not reach from one power of two to the
# next. The counts of more values are scaled down, which moves no maximum, and the level of the interval with them.
_MOST_VALUES = 1 << 16


def empty_counts(num_series: int, per_octave: int) -> Tensor:
    """Counts of no values: exact zeros, cells, and values that are not finite, int64 of shape [series, bins]."""
    return torch.zeros(num_series, _OCTAVES * per_octave + 2, dtype=torch.long)


def differences(x: Tensor) -> Tensor:
    """Differences of the draws 0 and 1, 2 and 3 and so on, [n // 2, ...]; an odd last draw is left out.

    Where one of both is exactly zero the difference is zero too: what is left out would else be half a difference.
    """
    last = len(x) - len(x) % 2
    first, second = x[0:last:2], x[1:last:2]
    return (first - second) * ((first != 0) & (second != 0))  # NaN of what is not finite


def pair_factor(alpha: Tensor) -> Tensor:
    """How many times the scale of draws that of their difference is: 2 ** (1 / alpha) of stable laws, root 2 beyond."""
    return 2 ** (1 / alpha.clamp(max=2))


def without_pairing(estimate: TailIndexEstimate, center: StreamCenter) -> TailIndexEstimate:
    """From the scale of the values to that of the draws."""
    return replace(estimate, scale=estimate.scale / pair_factor(estimate.alpha)) if center == "pairs" else estimate


def add_counts(counts: Tensor, x: Tensor, per_octave: int) -> None:
    """Adds the values x, shape [n, series], to counts, in place."""
    num_series, num_bins = counts.shape
    places = torch.int32 if counts.numel() < 1 << 31 else torch.long
    first = torch.arange(num_series, dtype=places, device=x.device) * num_bins
    index = (_bin(_in_single(x), per_octave) + first).flatten()
    counts.view(-1).index_add_(0, index, counts.new_ones(()).expand(index.shape))


def _in_single(x: Tensor) -> Tensor:
    """Sizes in float32; what is neither zero nor infinite stays so, in the cells at the ends."""
    if x.dtype != torch.float64:
        return x.float()
    size, limits = x.abs(), torch.finfo(torch.float32)
    return torch.where((size == 0) | size.isinf(), size, size.clamp(limits.tiny, limits.max)).float()


def _bin(x: Tensor, per_octave: int) -> Tensor:
    """Bin 0 for zero, the last one for what is not finite, else the cell plus 1; of float32 values."""
    bits = leading_bits(x.clone(memory_format=torch.contiguous_format), per_octave)
    present, infinite = x != 0, bits >= _INFINITE_EXPONENT * per_octave
    first = (_EXPONENT_BIAS + _FIRST) * per_octave
    return bits.clamp_(first, first + _OCTAVES * per_octave - 1).sub_(first).add_(present).add_(infinite)


def to_cells(counts: Tensor, per_octave: int) -> Cells:
    """Shifts absolute counts, each series by the power of two that is nearest to its median, to relative cells."""
    ends = torch.nn.functional.pad(counts[:, 1:-1].cumsum(1), (1, 0))
    num_values, finite = ends[:, -1], counts[:, -1] == 0
    middle = torch.searchsorted(ends[:, 1:].contiguous(), (num_values[:, None] + 1) // 2)[:, 0]
    octave = (middle + per_octave // 2) // per_octave  # up from 1.5 times a power of two
    # The open cells at both ends of the stream stay within the open ones of the fit, but for medians close to an end:
    # then what is beyond that end would be counted as if it were just before it.
    lowest, highest = -FIRST_OCTAVE, _OCTAVES - NUM_OCTAVES - FIRST_OCTAVE
    beyond = counts[:, 1] * (octave <= lowest) + counts[:, -2] * (octave >= highest)
    near = octave <= highest + _MOST_SHIFTED  # scales further from the unit are not looked for
    octave = octave.clamp(lowest, highest)
    limits = torch.arange(NUM_OCTAVES * per_octave + 1, device=counts.device)
    below = ends.gather(1, (octave + FIRST_OCTAVE)[:, None] * per_octave + limits)
    inside = torch.cat([below[:, :1], below.diff(dim=1), num_values[:, None] - below[:, -1:]], dim=1)
    exponent = (octave + _FIRST).float()  # of integers, older versions of torch would make the default type
    total, unit = counts[:, 0] + num_values, torch.ldexp(torch.ones_like(exponent), exponent)
    return Cells(
        counts=inside.to(torch.float32 if counts.device.type == "mps" else torch.float64),
        index=torch.empty(len(counts), 0, dtype=torch.uint8, device=counts.device),
        middle=torch.zeros_like(unit),
        unit=unit,
        num_values=num_values * finite,
        zero_share=torch.where(finite, counts[:, 0] / total.clamp(min=1).to(unit), torch.nan),
        finite=finite,
        varies=(num_values > 0) | (counts[:, 0] == 0) | ~finite,
        in_reach=near & (beyond <= _MOST_BEYOND * num_values) & ((counts > 0).sum(1) != 1),
    )


def estimate_counts(counts: Tensor, per_octave: int, *, pooled: bool) -> TailIndexEstimate:
    """Estimates from counts [series, bins], for each series or one tail index for all.

    Counts do not tell how much the series of a pool depend on each other, so the interval is that of the worst case:
    of one series' number of values, whatever the number of series.
    """
    cells = to_cells(counts, per_octave)
    share = (_MOST_VALUES / cells.num_values.clamp(min=1).to(cells.counts)).clamp(max=1)
    if not pooled:
        fit = fit_each(_thinned(cells, share), per_octave, share)
        fit = replace(fit, log_likelihood=fit.log_likelihood / share.to(fit.alpha))
        return estimate_each(fit, cells, counts.shape[:1])
    # One share for all, because the weights of the series among each other tell which tail index fits best.
    least = share.amin()
    thin = _thinned(cells, least.expand(len(share)))
    spread = max(int(thin.usable.sum()), 1) * float(least)
    sizes = (len(counts),)
    groups = Groups(thin.counts.new_empty(0, len(counts)), thin, sizes, search(thin, sizes, per_octave))
    fit = Pooled(groups, spread=spread).fit()
    least = least.to(fit.alpha)
    fit = replace(fit, log_likelihood=fit.log_likelihood / least, effective_series=fit.effective_series * least)
    return estimate_groups(fit, cells, sizes)[0]


def _thinned(cells: Cells, share: Tensor) -> Cells:
    """The same cells with a share of every count, [series]."""
    num_values = torch.maximum((cells.num_values * share).long(), cells.num_values.clamp(max=FEWEST_VALUES))
    return replace(cells, counts=cells.counts * share[:, None], num_values=num_values)
