"""The tail index of noise averaged over minibatches."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from lightning_tailindex.records import Report

from ._canvas import STABLE, dress, figure_of, new_axes, titled
from ._choice import by_group, check_kind, checked_group, in_order
from ._intervals import draw_alphas, finish_alphas

__all__ = ["alpha_by_minibatch_size"]


def alpha_by_minibatch_size(report: Report, group: str | None = None, *, ax: Axes | None = None) -> tuple[Figure, Axes]:
    """Draws the tail index of a group's noise against the minibatch size, as averages of draws tell it.

    A line that stays where it is speaks for a stable law, which keeps its index whatever is averaged; one that climbs
    to 2 for noise of finite variance. The first point is the measurement itself. The larger the averages, the fewer
    they are; they are of 256 coordinates at most. Those without a tail index are gaps.

    Args:
        report: The report; of its first estimator.
        group: Name of the group; None for the whole model.
        ax: Axes to draw to; None makes a new figure.

    Returns:
        The figure and its axes; x is the minibatch size in samples, or in draws where the report does not know it, on a
        logarithmic scale; y is the tail index without a unit.

    Raises:
        TypeError: If it is no report.
        ValueError: If the report has no such group.

    Example:
        >>> fig, ax = alpha_by_minibatch_size(reports[-1], "fc1")  # of TailIndexMonitor.reports
        >>> ax.get_xlabel()
        'minibatch size (samples)'
    """
    check_kind("alpha_by_minibatch_size", report, Report)
    group = checked_group("alpha_by_minibatch_size", in_order("alpha_by_minibatch_size", report), group)
    measurement = by_group(report)[group]
    averaged = [1, *(average.num_minibatches for average in measurement.aggregated)]
    sizes = [number * (report.minibatch_size or 1) for number in averaged]
    ax = new_axes(7.2, 3.8)[0] if ax is None else ax
    draw_alphas(ax, sizes, [measurement, *measurement.aggregated], "noise, 95 % interval", {**STABLE, "linewidth": 1.5})
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_locator(FixedLocator(sizes))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlim(sizes[0] / 1.4, sizes[-1] * 1.4)
    unit = "minibatch size (samples)" if report.minibatch_size else "minibatches averaged into a draw"
    title = titled(f"Averages of draws at step {report.step}:", group)
    dress(ax, title, unit, "tail index α (2: Gaussian)")
    finish_alphas(ax)
    return figure_of(ax), ax
