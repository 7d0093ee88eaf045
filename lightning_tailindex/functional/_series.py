"""Series that belong together in a computation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ._counts import Cells
from ._grid import Grid, by_length
from ._likelihood import Likelihood, as_weights, in_chunks


@dataclass(frozen=True)
class Series:
    """Series of about one length, of any of the groups.

    Attributes:
        index: Which of all series, shape [series].
        group: Their groups, shape [series].
        grid: The scales that suit them.
    """

    index: Tensor
    group: Tensor
    grid: Grid

    def in_chunks(self) -> Iterator[Series]:
        """Splits them, so that their likelihood stays in the cache."""
        chunks = (in_chunks(own, self.grid) for own in (self.index, self.group))
        return (Series(index, group, self.grid) for index, group in zip(*chunks, strict=True))

    def of(self, groups: Tensor) -> Series:
        """Those that belong to some groups, which a mask of shape [groups] tells."""
        return self if bool(groups.all()) else self.only(groups[self.group])

    def only(self, chosen: Tensor) -> Series:
        """Those that a mask of shape [series] tells."""
        kept = chosen.nonzero()[:, 0]
        return Series(self.index.index_select(0, kept), self.group.index_select(0, kept), self.grid)


def sums_of_groups(values: Tensor, sizes: Tensor) -> Tensor:
    """Sums values [..., series] over the series of each group, [..., groups], in float64.

    Series lie group after group, as many as ``sizes``, shape [groups], says.
    """
    rows = values.reshape(values.shape[:-1].numel(), values.shape[-1]).T
    rows = rows.to(torch.float64, memory_format=torch.contiguous_format)
    sums: Tensor = torch.segment_reduce(rows, "sum", lengths=sizes, axis=0, unsafe=True)  # no look at them
    return sums.T.reshape(*values.shape[:-1], len(sizes))


def parts(
    counts: Tensor, series: Series, num_groups: int
) -> Iterator[tuple[Series, Tensor, Callable[[Tensor], Tensor]]]:
    """Some series at a time, their counts, and what sums values [..., series] up over each group."""
    for some in series.in_chunks():
        weights = as_weights(counts, some.index, some.grid)
        sizes = some.group.bincount(minlength=num_groups)
        yield some, weights, partial(sums_of_groups, sizes=sizes)


def marginal(part: Likelihood, grid: Grid) -> Tensor:
    """Log-likelihood with the scale integrated out, shape [nodes, series]."""
    return part.marginal + grid.log_spacing(part.mass)[:, None]


def each_class(cells: Cells, per_octave: int) -> list[Series]:
    """The usable series by their lengths, all of group 0, with scales wide enough for other laws too."""
    return [Series(i, torch.zeros_like(i), grid.widened()) for i, grid in by_length(cells, per_octave)]
