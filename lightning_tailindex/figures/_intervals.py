"""Tail indices with their intervals, and their Gaussian surrogates, over anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from lightning_tailindex.records import AggregatedTailIndex, Measurement

from ._canvas import legend_outside

__all__ = ["draw_alphas", "draw_intervals", "finish_alphas", "fit_axis"]

_HIGHEST = 2.1  # where the axis ends if nothing lies beyond: a tail index is 2 at most

Found = Measurement | AggregatedTailIndex | None


def draw_alphas(ax: Axes, x: Sequence[float], found: Sequence[Found], label: str, style: dict[str, Any]) -> None:
    """Draws tail indices with error bars, gaps where there is none, and hollow markers for the surrogates."""
    alpha, low, high, gaussian = (_values(found, name) for name in ("alpha", "low", "high", "gaussian_alpha"))
    draw_intervals(ax, x, (alpha, low, high), label, style)
    ax.plot(
        x,
        gaussian,
        color=style["color"],
        marker=style["marker"],
        markersize=4,
        markerfacecolor="none",
        linestyle="none" if style["linestyle"] == "none" else ":",
        linewidth=1,
    )


def draw_intervals(
    ax: Axes, x: Sequence[float], rows: Sequence[Sequence[float]], label: str, style: dict[str, Any]
) -> None:
    """Draws values with error bars, given the values and the lower and upper ends of their intervals."""
    alpha, low, high = rows
    errors = [
        [max(a - lowest, 0.0) for a, lowest in zip(alpha, low, strict=True)],
        [max(highest - a, 0.0) for a, highest in zip(alpha, high, strict=True)],
    ]
    ax.errorbar(x, alpha, yerr=errors, capsize=2.5, elinewidth=1, markersize=6, label=label, **style)


def _values(found: Sequence[Found], name: str) -> list[float]:
    return [math.nan if each is None else float(getattr(each, name)) for each in found]


def fit_axis(ax: Axes) -> None:
    """Lets the axis of the tail index start at 0 and hold all that was drawn."""
    ax.set_ylim(0, max(_HIGHEST, ax.dataLim.y1))


def finish_alphas(ax: Axes) -> None:
    """Fits the axis, and adds the legend with the surrogates in it."""
    fit_axis(ax)
    surrogate = Line2D([], [], color="0.3", marker="o", markersize=4, markerfacecolor="none", linestyle=":")
    handles, labels = ax.get_legend_handles_labels()
    legend_outside(ax, handles=[*handles, surrogate], labels=[*labels, "Gaussian surrogate\nof the same group"])
