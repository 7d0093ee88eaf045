"""The tail index of groups over training."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_tailindex.records import Report

from ._canvas import WHOLE_MODEL, count_along, dress, figure_of, height_for, look, new_axes, shortened
from ._choice import by_group, chosen_groups, in_order, names_of_groups
from ._intervals import draw_alphas, finish_alphas

__all__ = ["alpha_over_steps"]


def alpha_over_steps(
    reports: Report | Sequence[Report],
    groups: Sequence[str] | None = None,
    *,
    most: int = 5,
    ax: Axes | None = None,
) -> tuple[Figure, Axes]:
    r"""Draws the tail index of groups over optimizer steps, with 95 % intervals and the Gaussian surrogates' beside.

    A step at which a group has no tail index is a gap in its line. The surrogates' values are the small hollow markers.

    Args:
        reports: One report or several; of their first estimator.
        groups: Names of the groups to draw; None for those whose last tail index is lowest, and the whole model.
        most: Groups to draw beside the whole model if none are named, at least 1.
        ax: Axes to draw to; None makes a new figure.

    Returns:
        The figure and its axes; x is the optimizer step, y the tail index without a unit.

    Raises:
        TypeError: If something is no report.
        ValueError: If there is no report, no such group, or ``most`` is below 1.

    Example:
        >>> fig, ax = alpha_over_steps(reports, ["fc1", "whole_model"])  # of TailIndexMonitor.reports
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['fc1', 'whole_model', 'Gaussian surrogate\nof the same group']
    """
    ordered = in_order("alpha_over_steps", reports)
    chosen, names = chosen_groups("alpha_over_steps", ordered, groups, most), names_of_groups(ordered)
    ax = new_axes(8.4, height_for(chosen))[0] if ax is None else ax
    steps = [report.step for report in ordered]
    for place, (group, label) in enumerate(zip(chosen, shortened(chosen), strict=True)):
        style = WHOLE_MODEL if group == names[-1] else look(place)
        draw_alphas(ax, steps, [by_group(report).get(group) for report in ordered], label, style)
    title = "Tail index of the gradient noise, with 95 % intervals"
    if groups is None and len(chosen) < len(names):
        title += f"\nthe {len(chosen) - 1} of {len(names) - 1} groups with the lowest last α"
    dress(ax, title, "optimizer step", "tail index α (2: Gaussian)")
    count_along(ax)
    finish_alphas(ax)
    return figure_of(ax), ax
