"""The tail index of the iterates of groups over training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_tailindex.records import IterateEstimate, IterateReport

from ._canvas import (
    WHOLE_MODEL,
    count_along,
    dress,
    figure_of,
    height_for,
    legend_outside,
    look,
    new_axes,
    shortened,
)
from ._choice import by_step, lowest
from ._intervals import draw_intervals, fit_axis

__all__ = ["iterate_alphas"]


def iterate_alphas(
    reports: IterateReport | Sequence[IterateReport],
    what: str = "ergodic_average",
    *,
    most: int = 5,
    ax: Axes | None = None,
) -> tuple[Figure, Axes]:
    """Draws a tail index of the iterates of groups over optimizer steps, with 95 % intervals.

    A window without such a tail index is a gap in a group's line.

    Args:
        reports: One report or several of the same groups.
        what: Which of the tail indices, a name in :class:`~lightning_tailindex.records.IterateMeasurement`.
        most: Groups to draw beside the whole model, those whose last tail index is lowest, at least 1.
        ax: Axes to draw to; None makes a new figure.

    Returns:
        The figure and its axes; x is the optimizer step at the end of a window, y the tail index without a unit.

    Raises:
        TypeError: If something is no report.
        ValueError: If there is no report, the last one has no such tail index, or ``most`` is below 1.

    Example:
        >>> from lightning_tailindex.records import IterateMeasurement
        >>> whole = IterateMeasurement("whole_model", 9, 9, 0.1, (IterateEstimate("ergodic_average", 1.5, 1.2, 1.8),))
        >>> fig, ax = iterate_alphas(IterateReport(1000, (whole,), (), 32, 1000, 0, 250, 1, "same", 0.1))
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['whole_model']
    """
    ordered = by_step("iterate_alphas", IterateReport, reports)
    known = [estimate.what for estimate in ordered[-1].whole_model.estimates]
    if what not in known:
        raise ValueError(f"iterate_alphas needs what to be among {known}, got {what!r}.")
    if most < 1:
        raise ValueError(f"iterate_alphas needs most to be at least 1, got {most}.")
    names = _chosen(ordered[-1], what, most)
    ax = new_axes(8.4, height_for(names))[0] if ax is None else ax
    for place, (name, label) in enumerate(zip(names, shortened(names), strict=True)):
        _draw(ax, ordered, name, what, label, WHOLE_MODEL if name == names[-1] else look(place))
    title = f"Tail index of the iterates ({what.replace('_', ' ')}), with 95 % intervals"
    left_out = len(ordered[-1].measurements) - len(names)
    if left_out:
        title += f"\nthe {len(names) - 1} of {len(names) - 1 + left_out} groups with the lowest last α"
    dress(ax, title, "optimizer step at the end of the window", "tail index α (2: Gaussian)")
    count_along(ax)
    fit_axis(ax)
    legend_outside(ax)
    return figure_of(ax), ax


def _chosen(report: IterateReport, what: str, most: int) -> list[str]:
    """The groups of the lowest tail index in a report's order, the whole model last."""
    *groups, whole = report.measurements
    return [*lowest({m.group: m.of(what).alpha for m in groups}, most), whole.group]


def _draw(ax: Axes, reports: Sequence[IterateReport], group: str, what: str, label: str, style: dict[str, Any]) -> None:
    found = [_found(report, group, what) for report in reports]
    rows = [(math.nan,) * 3 if each is None else (each.alpha, each.low, each.high) for each in found]
    columns = [[row[i] if math.isfinite(row[i]) else math.nan for row in rows] for i in range(3)]
    draw_intervals(ax, [report.step for report in reports], columns, label, style)


def _found(report: IterateReport, group: str, what: str) -> IterateEstimate | None:
    """Finds a tail index of a group; None where a report, of a run with other arguments say, has no such one."""
    estimates = (each for m in report.measurements if m.group == group for each in m.estimates if each.what == what)
    return next(estimates, None)
