"""How the papers' figures look."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from results import known

__all__ = ["draw_seeds", "legend_below", "panels", "tail_axis"]

# Okabe and Ito's, which colour-blind readers can tell apart; with as many markers, line 8 would look like line 1
_COLORS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<")
_MOST_MARKERS = 12
_MOST_COLUMNS = 3


def panels(number: int) -> tuple[Figure, list[Axes]]:
    """Makes a figure of panels in rows of three, four of them in rows of two, with the tail index along y."""
    columns = 2 if number == _MOST_COLUMNS + 1 else min(number, _MOST_COLUMNS)
    rows = -(-number // columns)
    figure = Figure(figsize=(1.4 + 3.4 * columns, 1.2 + 2.7 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for row in axes:
        row[0].set_ylabel("tail index α (2: Gaussian)")
    for ax in axes.flat[number:]:
        ax.remove()
    return figure, list(axes.flat[:number])


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
    found = {x: known(values[x]) for x in sorted(values)}
    return {x: own for x, own in found.items() if own}


def tail_axis(ax: Axes) -> None:
    """Makes y that of a tail index, once all is drawn: group sums read above 2, too."""
    ax.axhline(2, color="0.7", linewidth=0.8, zorder=0)
    ax.set_ylim(0, max(2.3, ax.get_ylim()[1], 1.02 * ax.dataLim.y1))


def legend_below(figure: Figure, axes: Iterable[Axes]) -> None:
    """Names each line once, of whichever panels it is in."""
    found = {}
    for ax in axes:
        handles, labels = ax.get_legend_handles_labels()
        found.update({label: handle for label, handle in zip(labels, handles, strict=True) if label not in found})
    figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=4, fontsize=8)
