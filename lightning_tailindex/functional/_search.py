"""Groups of series that share their draws: counted, and searched coarsely for one tail index each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import numpy as np
import torch
from torch import Tensor

from ._centers import Center
from ._counts import Cells, count_values
from ._grid import FEWEST_TOGETHER, by_length, every
from ._likelihood import LARGEST_EDGE
from ._series import Series, sums_of_groups
from ._settling import settled

COARSE = every(4)


@dataclass(frozen=True)
class Reach:
    """How far down a search looks at first: tail indices of noise are rarely below.

    Attributes:
        first: The first of the coarse nodes.
        fall: What the curve has to have lost there, in nats a series; all nodes are evaluated where it has not.
    """

    first: int
    fall: float


INTERVAL = Reach(7, 2.0)  # 0.63: the interval ends before, even where all series tell the same
MAXIMUM = Reach(12, 0.5)  # 1.30: so does the surroundings of the maximum
ALTERNATIVES = Reach(16, -math.inf)  # 1.89, 1.97 and 2, and no others: for ratios against the Gaussian


@dataclass(frozen=True)
class Search:
    """A coarse search for one tail index for each group.

    Attributes:
        classes: The usable series by their lengths, with scales that are wide enough.
        curve: Coarse log-likelihoods, shape [nodes, groups]; minus infinity where they are too low to matter.
        num_series: Usable series, shape [groups].
        num_values: Values in them, shape [groups].
        wider_at_two: Whether the scales are not wide enough for the Gaussian, shape [groups].
    """

    classes: tuple[Series, ...]
    curve: Tensor
    num_series: Tensor
    num_values: Tensor
    wider_at_two: Tensor

    @property
    def gaussian_ratios(self) -> Tensor:
        """Twice the logarithm of the likelihood at the better of two alternatives over that at 2, shape [groups]."""
        curve = self.curve[ALTERNATIVES.first :]
        return 2 * (curve[:-1].amax(0) - curve[-1])

    @property
    def filled(self) -> Tensor:
        """Which groups have a usable series, shape [groups]."""
        return self.num_series > 0


@dataclass(frozen=True)
class Groups:
    """Groups of series, counted and searched once for all that is asked of them.

    Attributes:
        x: The values, group after group, shape [n, series].
        cells: Their counts.
        sizes: Number of series in each group.
        search: The coarse search.
    """

    x: Tensor
    cells: Cells
    sizes: tuple[int, ...]
    search: Search

    @classmethod
    def of(
        cls,
        x: Tensor,
        sizes: Sequence[int],
        center: Center,
        per_octave: int,
        *,
        keep_index: bool = False,
        reach: Reach = INTERVAL,
    ) -> Groups:
        """Counts and searches values [n, series], group after group."""
        cells = count_values(x, center, per_octave, keep_index=keep_index)
        return cls(x, cells, tuple(sizes), search(cells, sizes, per_octave, reach))

    def first(self, number: int) -> Groups:
        """Only so many of the groups."""
        own, groups = slice(sum(self.sizes[:number])), torch.arange(len(self.sizes), device=self.x.device) < number
        found = Search(
            tuple(series.of(groups) for series in self.search.classes),
            self.search.curve[:, :number],
            self.search.num_series[:number],
            self.search.num_values[:number],
            self.search.wider_at_two[:number],
        )
        return Groups(self.x[:, own], self.cells.of(own), self.sizes[:number], found)

    def own(self) -> list[slice]:
        """Where the series of each group are."""
        return [slice(first, last) for first, last in pairwise(accumulate(self.sizes, initial=0))]


def search(cells: Cells, sizes: Sequence[int], per_octave: int, reach: Reach = INTERVAL) -> Search:
    """Evaluates coarsely spaced nodes for the usable series of each group, on scales that are wide enough."""
    counts, num_groups = cells.counts, len(sizes)
    group = torch.from_numpy(np.repeat(np.arange(num_groups), sizes)).to(counts.device)
    usable = cells.usable.nonzero()[:, 0]
    nodes = COARSE[reach.first :]
    classes = [Series(i, group[i], grid.over(nodes)) for i, grid in by_length(cells, per_octave, FEWEST_TOGETHER)]
    curve, edge, wide = settled(counts, classes, nodes, num_groups)
    size = group[usable].bincount(minlength=num_groups)
    short = (curve[0] > curve.amax(0) - reach.fall * size) & (size > 0)
    curve = torch.nn.functional.pad(curve, (0, 0, reach.first, 0), value=-math.inf)
    if bool(short.any()):
        again = [replace(series.of(short), grid=series.grid.over(COARSE)) for series in wide]
        rest = (series.of(~short) for series in wide)
        whole, _, wider = settled(counts, again, COARSE, num_groups)
        curve[:, short], wide = whole[:, short], [series for series in (*rest, *wider) if len(series.index) > 0]
    num_values = sums_of_groups(cells.num_values[usable], size)
    return Search(tuple(wide), curve, size, num_values, edge > LARGEST_EDGE * size)
