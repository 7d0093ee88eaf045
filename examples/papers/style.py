"""How the papers' figures look."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from matplotlib.axes import Axes

__all__ = ["draw_seeds", "tail_axis"]

# Okabe and Ito's, which colour-blind readers can tell apart
_COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_MOST_MARKERS = 12


def draw_seeds(
    ax: Axes,
    values: Mapping[float, Sequence[float]],
    place: int,
    label: str,
    surrogates: Mapping[float, Sequence[float]],
) -> None:
    """Draws medians over seeds with a band from least to largest, and dotted the medians of surrogates.

    Args:
        ax: Where.
        values: Those of all seeds, by what is along the axis; NaN is left out.
        place: Number of the line, for its colour and marker.
        label: Its name in the legend.
        surrogates: As values; empty for none.
    """
    color, marker = _COLORS[place % len(_COLORS)], _MARKERS[place % len(_MARKERS)]
    line: dict[str, Any] = {"color": color, "marker": marker, "markersize": 4, "markerfacecolor": "none"}
    seeds, gaussian = _numbers(values), _numbers(surrogates)
    every = max(1, -(-len(seeds) // _MOST_MARKERS))
    ax.plot(list(seeds), list(map(median, seeds.values())), label=label, markevery=every, **line)
    low, high = (list(map(choose, seeds.values())) for choose in (min, max))
    ax.fill_between(list(seeds), low, high, color=color, alpha=0.2, linewidth=0)
    ax.plot(list(gaussian), list(map(median, gaussian.values())), color=color, linestyle=":", linewidth=1)


def _numbers(values: Mapping[float, Sequence[float]]) -> dict[float, list[float]]:
    """What is not NaN, by what is along the axis, in order."""
    known = {x: [value for value in values[x] if not math.isnan(value)] for x in sorted(values)}
    return {x: own for x, own in known.items() if own}


def tail_axis(ax: Axes) -> None:
    """Makes y that of a tail index."""
    ax.axhline(2, color="0.7", linewidth=0.8, zorder=0)
    ax.set_ylim(0, 2.3)
