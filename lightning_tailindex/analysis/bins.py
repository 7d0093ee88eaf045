"""Histograms counted on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lightning_tailindex.functional import median
from lightning_tailindex.functional._scan import cumulative_sum
from lightning_tailindex.records import Histogram

__all__ = ["ALPHA_BINS", "NOISE_BINS", "Bins"]


@dataclass(frozen=True)
class Bins:
    """Bins of one width, the first and the last of which take what lies beyond.

    Attributes:
        low: Lower edge of the first.
        high: Upper edge of the last.
        count: Their number.
    """

    low: float
    high: float
    count: int

    @cached_property
    def edges(self) -> tuple[float, ...]:
        """The edges, one more than there are bins; all histograms share them, which halves a report."""
        return tuple(self.low + (self.high - self.low) * i / self.count for i in range(self.count + 1))

    @property
    def width(self) -> int:
        """Numbers in a summary."""
        return self.count + 2

    def summarize(self, values: Tensor, sizes: Sequence[int]) -> Tensor:
        """Counts the values of several groups, NaN left out.

        Args:
            values: Values ``[n, series]``, group after group.
            sizes: Number of series in each group.

        Returns:
            The counts, the sum and the sum of squares of each group, ``[groups, width]``, on the values' device.
        """
        clamped, stride = values.clamp(self.low, self.high).float(), self.count + 1  # the last bin is that of NaN
        missing, kept = clamped.isnan(), clamped.nan_to_num(0.0)
        index = ((kept - self.low) * (self.count / (self.high - self.low))).int().clamp_(max=self.count - 1)
        index.masked_fill_(missing, self.count)
        first = torch.cat([index.new_full((size,), stride * i) for i, size in enumerate(sizes)])
        counts = torch.bincount(index.add_(first).flatten(), minlength=stride * len(sizes))
        sums = torch.stack([kept.sum(0), kept.square().sum(0)])
        of_groups = torch.stack([own.sum(1) for own in torch.split(sums, list(sizes), dim=1)])
        return torch.cat([counts.view(-1, stride)[:, :-1].to(kept.dtype), of_groups], dim=1)

    def median(self, summary: Tensor) -> Tensor:
        """Finds the median from a summary, on a straight line through its bin; NaN where nothing was counted."""
        below = torch.nn.functional.pad(cumulative_sum(summary[: self.count]), (1, 0))
        half = below[-1:] / 2
        i = torch.searchsorted(below[1:].contiguous(), half).clamp(max=self.count - 1)
        share = (half - below[i]) / (below[i + 1] - below[i])
        return (self.low + (self.high - self.low) / self.count * (i + share))[0]

    def coarser(self, summary: Tensor, bins: Bins) -> Tensor:
        """Turns a summary into that of fewer bins over the same range, each of which is some of these."""
        counts, rest = summary[: self.count], summary[self.count :]
        return torch.cat([counts.reshape(bins.count, -1).sum(1), rest])

    def unpack(self, numbers: list[float]) -> Histogram:
        """Makes the record of what :meth:`summarize` returned."""
        return Histogram(self.edges, tuple(int(c) for c in numbers[: self.count]), numbers[-2], numbers[-1])


ALPHA_BINS = Bins(0.0, 2.5, 50)
NOISE_BINS = Bins(-median.NOISE_REACH, median.NOISE_REACH, median.NUM_NOISE_BINS)
