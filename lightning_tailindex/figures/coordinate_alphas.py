"""How the coordinates' own tail indices are spread, at several steps."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_tailindex.records import Measurement, Report

from ._canvas import dress, figure_of, legend_outside, look, new_axes, titled
from ._choice import by_group, checked_group, in_order

__all__ = ["coordinate_alphas"]


def coordinate_alphas(
    reports: Report | Sequence[Report], group: str | None = None, *, most: int = 4, ax: Axes | None = None
) -> tuple[Figure, Axes]:
    """Draws histograms of the coordinates' own tail indices in one group, one for each of several steps.

    Below each histogram a marker shows its median. Each coordinate's tail index rests on its own draws alone, so with
    some 64 of them the histogram is wide even where all coordinates share one index; compare steps, not widths.

    Args:
        reports: One report or several; of their first estimator.
        group: Name of the group; None for the whole model.
        most: Steps to draw, at least 1: the first, the last, and evenly many between them.
        ax: Axes to draw to; None makes a new figure.

    Returns:
        The figure and its axes; x is the tail index without a unit, y the share of the coordinates in a bin in percent.

    Raises:
        TypeError: If something is no report.
        ValueError: If there is no report, no such group, ``most`` is below 1, or no coordinate has a tail index.

    Example:
        >>> fig, ax = coordinate_alphas(reports, "fc1")  # of TailIndexMonitor.reports
        >>> ax.get_xlabel()
        "coordinate's own tail index α"
    """
    ordered = in_order("coordinate_alphas", reports)
    group = checked_group("coordinate_alphas", ordered, group)
    if most < 1:
        raise ValueError(f"coordinate_alphas needs most to be at least 1, got {most}.")
    found = [(report.step, by_group(report).get(group)) for report in ordered]
    usable = [(step, m) for step, m in found if m is not None and sum(m.coordinate_alphas.counts) > 0]
    if not usable:
        raise ValueError(f"coordinate_alphas needs coordinates with a tail index, got none in group {group!r}.")
    ax = new_axes(7.6, 3.8)[0] if ax is None else ax
    for place, (step, measurement) in enumerate(_spread(usable, most)):
        _draw(ax, step, measurement, place)
    ax.set_ylim(bottom=0)
    title = titled("Tail indices of the coordinates of", group)
    dress(ax, title, "coordinate's own tail index α", "coordinates in a bin, in %")
    legend_outside(ax, title="optimizer step")
    return figure_of(ax), ax


def _spread(found: list[tuple[int, Measurement]], most: int) -> list[tuple[int, Measurement]]:
    """Takes the last, the first and evenly many between them."""
    if most == 1:
        return found[-1:]
    number = min(most, len(found))
    return [found[round(i * (len(found) - 1) / max(number - 1, 1))] for i in range(number)]


def _draw(ax: Axes, step: int, measurement: Measurement, place: int) -> None:
    histogram, style = measurement.coordinate_alphas, look(place)
    marker = style.pop("marker")
    total = sum(histogram.counts)
    shares = [100 * count / total for count in histogram.counts]
    ax.stairs(shares, histogram.edges, fill=True, color=style["color"], alpha=0.12)
    ax.stairs(shares, histogram.edges, **style)
    median = measurement.coordinate_median
    label = f"{step}: median {median:.2f}"
    # on the axis, so that it hides no bin
    ax.plot([median], [0], marker=marker, markersize=8, clip_on=False, zorder=5, label=label, **style)
