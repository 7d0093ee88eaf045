"""The largest eigenvalues of the Hessian over training."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_tailindex.records import SharpnessReport

from ._canvas import WHOLE_MODEL, count_along, dress, figure_of, legend_outside, look, new_axes
from ._choice import by_step

__all__ = ["sharpness_over_steps"]


def sharpness_over_steps(
    reports: SharpnessReport | Sequence[SharpnessReport], *, ax: Axes | None = None
) -> tuple[Figure, Axes]:
    r"""Draws the largest eigenvalues of the Hessian over optimizer steps, and where the step size becomes unstable.

    That is the limit of stability over the largest step size: :math:`2 / \eta` for gradient descent, and
    :math:`2 (1 + \beta) / \eta` with momentum. An eigenvalue that did not converge is a gap in its line.

    Args:
        reports: One report or several.
        ax: Axes to draw to; None makes a new figure.

    Returns:
        The figure and its axes; x is the optimizer step, y an eigenvalue in the unit of the loss over that of the
        parameters squared.

    Raises:
        TypeError: If something is no report.
        ValueError: If there is no report.

    Example:
        >>> fig, ax = sharpness_over_steps(sharpness_reports)  # of SharpnessMonitor.reports
        >>> [text.get_text() for text in ax.get_legend().get_texts()]
        ['largest eigenvalue', 'eigenvalue 2', 'stable below this\n(limit / step size)']
    """
    ordered = by_step("sharpness_over_steps", SharpnessReport, reports)
    ax = new_axes(8.4, 4)[0] if ax is None else ax
    steps = [report.step for report in ordered]
    for place in range(max(len(report.eigenvalues) for report in ordered)):
        values = [r.eigenvalues[place] if place < len(r.eigenvalues) else float("nan") for r in ordered]
        style, label = (
            (WHOLE_MODEL, "largest eigenvalue") if place == 0 else (look(place - 1), f"eigenvalue {place + 1}")
        )
        ax.plot(steps, values, label=label, markersize=4 if place else 7, **style)
    limits = [_limit(report) for report in ordered]
    if any(limit == limit for limit in limits):
        style = {"color": "0.35", "linestyle": (0, (6, 3)), "marker": "_" if len(steps) == 1 else "None"}
        ax.plot(steps, limits, label="stable below this\n(limit / step size)", linewidth=1.5, **style)
    dress(ax, "Largest eigenvalues of the training loss's Hessian", "optimizer step", "eigenvalue λ")
    count_along(ax)
    legend_outside(ax)
    return figure_of(ax), ax


def _limit(report: SharpnessReport) -> float:
    step_size = max(report.step_sizes, default=0.0)
    return report.stability_limit / step_size if step_size > 0 else float("nan")
