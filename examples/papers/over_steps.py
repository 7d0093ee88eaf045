"""The tail index over the steps of training, for each setting of a sweep: a table, and a figure."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from results import data_of, scalars_of, settings, spread
from style import draw_seeds, tail_axis

from lightning_tailindex import Measurement, Report
from lightning_tailindex.report.runs import Run

__all__ = ["FIRST", "draw_estimator", "drawn", "lines_of", "scalars", "table"]

FIRST = ""
"""Stands for a run's first estimator, whose name event files do not hold."""

_MOST_COLUMNS = 3

Line = tuple[str, str]  # group and estimator


def lines_of(report: Report) -> Iterator[tuple[Line, Measurement]]:
    """Names what is told of a report: the first estimator's groups, and further estimators of the whole model."""
    first, whole = report.measurements[0].estimator, report.whole_model.group
    for measurement in report.measurements:
        if measurement.estimator == first:
            yield (measurement.group, ""), measurement
        elif measurement.group == whole:
            yield (whole, measurement.estimator), measurement


def _values(runs: Sequence[Run], field: str) -> dict[Line, dict[float, list[float]]]:
    """A number of every line at every step, one for each seed."""
    found: dict[Line, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        for report in run.reports:
            for line, measurement in lines_of(report):
                found[line][report.step].append(getattr(measurement, field))
    return found


def draw_estimator(ax: Axes, runs: Sequence[Run], group: str, estimator: str, place: int, label: str) -> None:
    """Draws what one estimator says of one group over the steps, seeds together.

    Args:
        ax: Where.
        runs: The seeds of a setting.
        group: Name of the group.
        estimator: Name of the estimator, or FIRST.
        place: Number of the line, for its colour and marker.
        label: Its name in the legend.
    """
    values, surrogates = defaultdict[float, list[float]](list), defaultdict[float, list[float]](list)
    for run in runs:
        for report in run.reports:
            for measurement in report.measurements:
                first = measurement.estimator == report.measurements[0].estimator
                if measurement.group == group and estimator == (FIRST if first else measurement.estimator):
                    values[report.step].append(measurement.alpha)
                    surrogates[report.step].append(measurement.gaussian_alpha)
    draw_seeds(ax, values, place, label, surrogates)
    tail_axis(ax)


def table(runs: Sequence[Run]) -> str:
    """Writes what was measured at the last step of every setting: medians over seeds, and their least and largest."""
    rows = [
        data_of(runs),
        "",
        "| setting | step | group | estimator | α | 95 % interval | Gaussian surrogate | averages of 4 minibatches |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, own in settings(runs).items():
        step = min(run.reports[-1].step for run in own)
        last = [dict(lines_of(report)) for run in own for report in run.reports if report.step == step]
        for line in last[0]:
            ms = [found[line] for found in last]
            interval = f"{median(m.low for m in ms):.2f} to {median(m.high for m in ms):.2f}"
            fours = [average.alpha for m in ms for average in m.aggregated if average.num_minibatches == 4]
            cells = (name, str(step), line[0], line[1] or "grouped_mle", spread([m.alpha for m in ms]), interval)
            # of the published arrangement, the surrogate is a line of its own
            surrogate = "" if line[1].startswith("published") else spread([m.gaussian_alpha for m in ms])
            rows.append(f"| {' | '.join([*cells, surrogate, spread(fours) if fours else ''])} |")
    return "\n".join(rows)


def scalars(runs: Sequence[Run], tags: Sequence[str], steps: Sequence[int]) -> str:
    """Writes scalars of every setting, such as those of the iterates: medians over seeds, their least and largest.

    Args:
        runs: The runs.
        tags: Tags of the scalars.
        steps: Where, each at the last step up to it; none for the end of the run.
    """
    rows = [f"| setting | {'step | ' * bool(steps)}{' | '.join(tags)} |", "|---" * (1 + bool(steps) + len(tags)) + "|"]
    for name, own in settings(runs).items():
        logged = [scalars_of(run) for run in own]
        for last in steps or [sys.maxsize]:
            cells = [name, str(last)] if steps else [name]
            for tag in tags:
                found = [{step: v for step, v in run.get(tag, {}).items() if step <= last} for run in logged]
                cells.append(spread([by_step[max(by_step)] for by_step in found if by_step]))
            rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def _draw_lines(ax: Axes, runs: Sequence[Run], title: str) -> None:
    """Draws every line of one setting, seeds together."""
    alphas, surrogates = _values(runs, "alpha"), _values(runs, "gaussian_alpha")
    for place, (line, by_step) in enumerate(alphas.items()):
        # of the published arrangement, the surrogate is a line of its own
        draw_seeds(ax, by_step, place, line[1] or line[0], {} if line[1] else surrogates[line])
    tail_axis(ax)
    ax.set(title=title, xlabel="optimizer step")
    ax.title.set_fontsize(9)


def drawn(runs: Sequence[Run]) -> Figure:
    """Draws the tail index over steps, a panel for each setting: medians over seeds, bands from least to largest."""
    panels = settings(runs)
    columns = min(len(panels), _MOST_COLUMNS)
    lines = -(-len(panels) // columns)
    figure = Figure(figsize=(1 + 3.6 * columns, 1.2 + 2.8 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    for ax, (title, own) in zip(axes.flat, panels.items(), strict=False):
        _draw_lines(ax, own, title)
    for row in axes:
        row[0].set_ylabel("tail index α (2: Gaussian)")
    figure.suptitle(f"{data_of(runs)}: median and range\ndotted: Gaussian surrogates", size=10)
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure
