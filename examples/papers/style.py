"""How the papers' figures look."""

from __future__ import annotations

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
        values: Those of all seeds, by what is along the axis.
        place: Number of the line, for its colour and marker.
        label: Its name in the legend.
        surrogates: As values; empty for none.
    """
    color, marker = _COLORS[place % len(_COLORS)], _MARKERS[place % len(_MARKERS)]
    line: dict[str, Any] = {"color": color, "marker": marker, "markersize": 4, "markerfacecolor": "none"}
    along = sorted(values)
    every = -(-len(along) // _MOST_MARKERS)
    ax.plot(along, [median(values[x]) for x in along], label=label, markevery=every, **line)
    low, high = ([choose(values[x]) for x in along] for choose in (min, max))
    ax.fill_between(along, low, high, color=color, alpha=0.2, linewidth=0)
    if surrogates:
        gaussian = [median(surrogates[x]) for x in sorted(surrogates)]
        ax.plot(sorted(surrogates), gaussian, color=color, linestyle=":", linewidth=1)


def tail_axis(ax: Axes) -> None:
    """Makes y that of a tail index."""
    ax.axhline(2, color="0.7", linewidth=0.8, zorder=0)
    ax.set_ylim(0, 2.3)
