"""The tail index over the steps of training, for each setting of a sweep: a table, and a figure."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from results import data_of, middle, scalars_of, settings, spread, up_to
from style import draw_seeds, legend_below, panels, tail_axis

from lightning_tailindex import Measurement, Report
from lightning_tailindex.report.runs import Run

__all__ = ["FIRST", "draw_estimator", "drawn", "lines_of", "scalars", "table"]

FIRST = "first"
"""Stands for a run's first estimator, whose name event files do not hold."""

Line = tuple[str, str]  # group and estimator


def measurements(report: Report) -> dict[Line, Measurement]:
    """What is told of each group by each estimator, the first one called FIRST."""
    first = report.measurements[0].estimator
    return {(each.group, FIRST if each.estimator == first else each.estimator): each for each in report.measurements}


def lines_of(runs: Sequence[Run]) -> list[Line]:
    """Names what is told of runs: the first estimator's groups, and further estimators of the whole model."""
    found = {
        (group, estimator): None
        for run in runs
        for report in run.reports
        for group, estimator in measurements(report)
        if estimator == FIRST or group == report.whole_model.group
    }
    whole = runs[0].reports[0].whole_model.group
    return sorted(found, key=lambda line: (line[0] == whole, line[1] != FIRST))  # the layers in their order


def draw_estimator(ax: Axes, runs: Sequence[Run], line: Line, place: int, label: str) -> None:
    """Draws what one estimator says of one group over the steps, seeds together.

    Args:
        ax: Where.
        runs: The seeds of a setting.
        line: Group and estimator.
        place: Number of the line, for its colour and marker.
        label: Its name in the legend.
    """
    values, surrogates = defaultdict[float, list[float]](list), defaultdict[float, list[float]](list)
    for run in runs:
        for report in run.reports:
            found = measurements(report).get(line)
            values[report.step].append(found.alpha if found else math.nan)
            surrogates[report.step].append(found.gaussian_alpha if found else math.nan)
    draw_seeds(ax, values, place, label, {} if _has_line_for_surrogate(line) else surrogates)
    tail_axis(ax)


def _has_line_for_surrogate(line: Line) -> bool:
    """Of the published arrangement, the surrogate is a line of its own."""
    return line[1].startswith("published")


def table(runs: Sequence[Run]) -> str:
    """Writes what was measured at the end of every setting: medians over seeds, and their least and largest."""
    columns = "setting | step | group | estimator | α | 95 % interval of a run, medians of its ends"
    rows = [
        data_of(runs),
        "",
        f"| {columns} | Gaussian surrogate | averages of 4 minibatches |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, own in settings(runs).items():
        step = min(run.reports[-1].step for run in own)
        last = [measurements(max((r for r in run.reports if r.step <= step), key=lambda r: r.step)) for run in own]
        for line in lines_of(own):
            numbers = _cells(line, [each.get(line) for each in last])
            rows.append(f"| {name} | {step} | {' | '.join(line)} | {numbers} |")
    return "\n".join(rows)


def _cells(line: Line, seeds: Sequence[Measurement | None]) -> str:
    alphas = spread([m.alpha if m else math.nan for m in seeds])
    low, high = middle(m.low for m in seeds if m), middle(m.high for m in seeds if m)
    surrogate = "" if _has_line_for_surrogate(line) else spread([m.gaussian_alpha if m else math.nan for m in seeds])
    fours = [average.alpha for m in seeds if m for average in m.aggregated if average.num_minibatches == 4]
    return f"{alphas} | {low:.2f} to {high:.2f} | {surrogate} | {spread(fours) if fours else ''}"


def scalars(runs: Sequence[Run], tags: Sequence[str], steps: Sequence[int]) -> str:
    """Writes scalars of every setting, such as those of the iterates: medians over seeds, their least and largest.

    Args:
        runs: The runs.
        tags: Tags of the scalars.
        steps: Where, each at the last step up to it; none for the end of the run.
    """
    first = ["setting", "up to step"] if steps else ["setting"]
    rows = [data_of(runs), "", f"| {' | '.join([*first, *tags])} |", "|---" * (len(first) + len(tags)) + "|"]
    for name, own in settings(runs).items():
        logged = [scalars_of(run) for run in own]
        for last in steps or [sys.maxsize]:
            cells = [name, str(last)] if steps else [name]
            cells += [spread([up_to(run.get(tag, {}), last) for run in logged]) for tag in tags]
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def drawn(runs: Sequence[Run]) -> Figure:
    """Draws the tail index over steps, a panel for each setting: medians over seeds, bands from least to largest."""
    found, lines = settings(runs), lines_of(runs)
    figure, axes = panels(len(found))
    for ax, (title, own) in zip(axes, found.items(), strict=True):
        there = set(lines_of(own))
        for place, line in enumerate(lines):
            if line in there:
                group, estimator = line
                draw_estimator(ax, own, line, place, group if estimator == FIRST else estimator)
        ax.set(xlabel="optimizer step")
        ax.set_title(title, fontsize=9)
    figure.suptitle(f"{data_of(runs)}: median and range\ndotted: Gaussian surrogates", size=10)
    legend_below(figure, axes)
    return figure
