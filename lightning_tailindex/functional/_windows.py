"""The likelihood at all nodes around the maximum of each group, kept for all that is asked of it there."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ._curves import highest
from ._likelihood import Likelihood, as_weights, likelihood
from ._search import COARSE, Search
from ._series import Series, marginal, parts
from ._tables import LAST_NODE

WIDTH = 2 * COARSE.step
_MOST_KEPT = 1 << 18  # series up to which the likelihood is kept, in a kilobyte each, and not computed again


@dataclass(frozen=True)
class Part:
    """Some series whose groups have the same window.

    Attributes:
        series: The series, with the nodes of the window.
        kept: Their likelihood at these nodes; None where there are too many series to keep it.
    """

    series: Series
    kept: Likelihood | None

    def likelihood(self, counts: Tensor) -> Likelihood:
        """The likelihood at the nodes of the window."""
        if self.kept is not None:
            return self.kept
        return likelihood(as_weights(counts, self.series.index, self.series.grid), self.series.grid)


@dataclass(frozen=True)
class Windows:
    """Evaluations around the coarse maximum of each group.

    Attributes:
        curve: Log-likelihood, shape [WIDTH + 1, groups].
        start: The first of these nodes, shape [groups].
        parts: The series.
    """

    curve: Tensor
    start: Tensor
    parts: tuple[Part, ...]

    @classmethod
    def of(cls, counts: Tensor, found: Search) -> Windows:
        """Evaluates the nodes around the coarse maxima."""
        start = (highest(found.curve) * COARSE.step - COARSE.step).clamp(0, LAST_NODE - WIDTH)
        curve = found.curve.new_zeros(WIDTH + 1, found.curve.shape[1])
        keep, kept = len(counts) <= _MOST_KEPT, []
        for k in torch.unique(start[found.filled]).tolist():
            groups, nodes = found.filled & (start == k), range(k, k + WIDTH + 1)
            for series in found.classes:
                window = replace(series.of(groups), grid=series.grid.over(nodes))
                for some, weights, summed in parts(counts, window, curve.shape[1]):
                    part = likelihood(weights, some.grid)
                    curve += summed(marginal(part, some.grid))
                    kept.append(Part(some, part if keep else None))
        return cls(curve, start, tuple(kept))
