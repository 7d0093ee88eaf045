"""One tail index for many series, the scale of each integrated out; for several groups of series at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ._curves import CHI_SQUARE, at, interval, maximize
from ._dispersion import dispersion
from ._each import Fit
from ._likelihood import gaussian_profile
from ._search import COARSE, Groups, Search
from ._series import parts, sums_of_groups
from ._tables import LAST_NODE, alpha_at
from ._windows import WIDTH, Windows


@dataclass(frozen=True)
class Pooled:
    """One tail index for the usable series of each group; what is not asked for is not computed.

    Attributes:
        groups: The groups.
        intervals: For which groups the dispersion of the score is measured; None for all.
        spread: That dispersion; None measures it where the bins of single values were kept.
    """

    groups: Groups
    intervals: Sequence[bool] | None = None
    spread: float | None = None

    @cached_property
    def windows(self) -> Windows:
        """The likelihood around the maxima."""
        return Windows.of(self.groups.cells.counts, self.groups.search)

    @cached_property
    def _maximum(self) -> tuple[Tensor, Tensor]:
        """Place in the window and value, both of shape [groups], of any number for groups without a usable series."""
        curve = self.windows.curve
        return maximize(curve, self.windows.start + len(curve) - 1 == LAST_NODE)

    @cached_property
    def alpha(self) -> Tensor:
        """Tail indices, shape [groups]; NaN for groups without a usable series."""
        found = alpha_at(self.windows.start + self._maximum[0])
        return torch.where(self.groups.search.filled, found, math.nan)

    @cached_property
    def _dispersion(self) -> Tensor:
        """That of the score, shape [groups]; NaN where it is unknown."""
        filled = self.groups.search.filled
        wide = self.alpha.new_full(self.alpha.shape, math.nan if self.spread is None else self.spread)
        wanted = filled & (True if self.intervals is None else torch.tensor(self.intervals, device=filled.device))
        if self.spread is None and self.groups.cells.index.shape[1] > 0 and bool(wanted.any()):
            wide = dispersion(self.groups, self.windows, wanted, self.alpha)
        return torch.where(wanted, wide, math.nan)

    @cached_property
    def ends(self) -> tuple[Tensor, Tensor]:
        """Both ends of the intervals, shape [groups]; NaN where the dispersion is unknown."""
        (place, value), wide = self._maximum, self._dispersion
        nodes = _ends(self.windows, self.groups.search.curve, place, value, wide)
        low, high = torch.where(wide.isnan(), math.nan, alpha_at(nodes))
        return low, high

    def expected_counts(self) -> Tensor:
        """Counts of all of a group's values that its law leads to expect, shape [groups, cells].

        At the node that is nearest to the tail index, over the scales that are likely for each series.
        """
        cells, node = self.groups.cells, self._maximum[0].round().long()
        expected = self.groups.search.curve.new_zeros(len(node), cells.counts.shape[1])
        for part in self.windows.parts:
            fit, series = part.likelihood(cells.counts), part.series
            own = node[series.group]
            likely = fit.relative.gather(1, own.expand(len(fit.relative), 1, -1))[:, 0] / at(fit.mass, own)
            sizes = series.group.bincount(minlength=len(node))
            weights = sums_of_groups(likely * cells.num_values[series.index], sizes)
            expected += torch.einsum("sg,sgc->gc", weights, series.grid.table(expected)[:, node].exp())
        return expected

    def fit(self) -> Fit:
        """All of it; fields of shape [groups] but ``log_ratio``, of shape [series]."""
        cells, found = self.groups.cells, self.groups.search
        log_ratio = found.curve.new_full((len(cells.counts),), math.nan)
        _scales(cells.counts, self.windows, self._maximum[0].double(), log_ratio)
        value = torch.where(found.filled, self._maximum[1], math.nan)
        above = value - _gaussian(cells.counts, found)
        gain = (above / found.num_values).clamp(min=0)  # the Gaussian is one of the stable laws
        return Fit(self.alpha, *self.ends, log_ratio, value, gain, found.num_series / self._dispersion)


def _gaussian(counts: Tensor, found: Search) -> Tensor:
    """Log-likelihood of the best Gaussians of the groups, [groups], however far their scales are from the unit."""
    total = torch.zeros_like(found.curve[-1])
    for series in found.classes:
        for _, weights, summed in parts(counts, series.of(found.wider_at_two), len(total)):
            width = (math.pi / weights.sum(1)).log() / 2  # of the likelihood, whose curvature is two for each value
            total += summed(gaussian_profile(weights, series.grid.per_octave) + width)
    return torch.where(found.wider_at_two, torch.maximum(total, found.curve[-1]), found.curve[-1])


def _ends(windows: Windows, coarse: Tensor, place: Tensor, value: Tensor, spread: Tensor) -> Tensor:
    """Nodes at which the intervals end, [2, groups]: in the window, or beyond it on the coarse curve."""
    level, start = CHI_SQUARE * spread, windows.start
    inner = start + torch.stack(interval(windows.curve, place, value, level, start + WIDTH == LAST_NODE))
    outer = torch.stack(interval(coarse, (start + place) / COARSE.step, value, level, at_two=True)) * COARSE.step
    return torch.where((inner > start) & (inner < start + WIDTH), inner, outer)


def _scales(counts: Tensor, windows: Windows, place: Tensor, log_ratio: Tensor) -> None:
    """Fills in the logarithms of the series' scales at places in the windows of their groups."""
    below = place.long().clamp(max=WIDTH - 1)
    for part in windows.parts:
        index, group, grid = part.series.index, part.series.group, part.series.grid
        nodes = torch.stack([below[group], below[group] + 1])
        before, after = grid.log_scale(part.likelihood(counts).best.gather(0, nodes).double(), nodes)
        log_ratio[index] = torch.lerp(before, after, place[group] - below[group])
