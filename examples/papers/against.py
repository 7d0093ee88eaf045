"""Scalars at the end of training, or at some steps, against a hyperparameter."""

from __future__ import annotations

import math
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, NullLocator
from results import data_of, scalars_of, spread, up_to
from style import draw_seeds, legend_below, tail_axis

from lightning_tailindex.report.compare import varied
from lightning_tailindex.report.runs import Run

__all__ = ["Plan", "drawn_against", "table_against"]

Key = str | int | float
_MOST_TICKS = 16
_WIDE = 8  # largest over smallest, from where on an axis is logarithmic


@dataclass(frozen=True)
class Plan:
    """What is shown.

    Attributes:
        along: Name of what is along the axis: a hyperparameter, or the tag of a scalar.
        lines: Name of what has a line for each value, "step" for each of the steps; empty for one line.
        panels: Name of what has a row of panels for each value; empty for one row.
        scalars: Tags, each a column; behind a colon the tag of the Gaussian surrogate's.
        steps: Where the scalars are taken, each at the last step up to it; none for the end of the run.
    """

    along: str
    lines: str
    panels: str
    scalars: tuple[str, ...]
    steps: tuple[int, ...]

    @property
    def tags(self) -> list[tuple[str, str]]:
        """Each scalar's tag with that of its surrogate, which may be empty."""
        parted = (tag.partition(":") for tag in self.scalars)
        return [(tag, surrogate) for tag, _, surrogate in parted]


@dataclass(frozen=True)
class Point:
    """What one run says at one step.

    Attributes:
        panel: Value of what has panels.
        line: Value of what has lines.
        along: Value of what is along the axis.
        seed: The run's seed.
        values: Those of the scalars by tag; NaN where one was not logged.
    """

    panel: Key
    line: Key
    along: float
    seed: Key
    values: dict[str, float]


def _points(runs: Sequence[Run], plan: Plan) -> list[Point]:
    logged = [(run, scalars_of(run)) for run in runs]
    found = [_point(run, own, plan, last) for run, own in logged for last in plan.steps or (sys.maxsize,)]
    places = [(point.panel, point.line, point.along, point.seed) for point in found]
    if len(set(places)) < len(places):
        others = ", ".join(set(varied(runs)) - {"seed", plan.along, plan.lines, plan.panels})
        raise ValueError(
            f"lines, panels or only must tell runs of one seed apart, which differ in {others or 'nothing'}"
        )
    return [point for point in found if not math.isnan(point.along)]


def _point(run: Run, logged: dict[str, dict[int, float]], plan: Plan, last: int) -> Point:
    wanted = {plan.along, plan.lines, plan.panels, *(tag for pair in plan.tags for tag in pair)}
    values = {tag: up_to(logged.get(tag, {}), last) for tag in wanted if "/" in tag}
    known: dict[str, Key] = {**values, **run.hparams, "step": last, "": ""}
    missing = [name for name in (plan.panels, plan.lines, plan.along) if name not in known]
    if missing or isinstance(known[plan.along], str):
        what = missing or [f"{plan.along}={known[plan.along]}"]
        raise ValueError(f"against must be a number and lines and panels known of {run.name}, got {', '.join(what)}")
    return Point(known[plan.panels], known[plan.lines], float(known[plan.along]), run.hparams["seed"], values)


def _of(points: Sequence[Point], tag: str) -> dict[Key, dict[float, list[float]]]:
    """The values of a tag by line and by what is along the axis."""
    found: dict[Key, dict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for point in points:
        found[point.line][point.along].append(point.values[tag])
    return {line: found[line] for line in sorted(found)}


def _rows(points: Sequence[Point]) -> dict[Key, list[Point]]:
    values = sorted({point.panel for point in points})
    return {value: [point for point in points if point.panel == value] for value in values}


def table_against(runs: Sequence[Run], plan: Plan) -> str:
    """Writes a table for each scalar: a row for each panel and line, a column for each value along the axis."""
    points = _points(runs, plan)
    along = sorted({point.along for point in points})
    prefix = "" if "/" in plan.along else f"{plan.along} "
    told = [data_of(runs)]
    for tag in dict.fromkeys(tag for pair in plan.tags for tag in pair if tag):
        names = [name for name in (plan.panels, plan.lines) if name]
        told += [
            "",
            f"{tag} against {plan.along}",
            "",
            f"| {' | '.join([*names, *(f'{prefix}{x:g}' for x in along)])} |",
        ]
        told += ["|---" * (len(names) + len(along)) + "|"]
        for panel, own in _rows(points).items():
            for line, by_x in _of(own, tag).items():
                keys = [str(key) for name, key in ((plan.panels, panel), (plan.lines, line)) if name]
                told += [f"| {' | '.join([*keys, *(spread(by_x[x]) if x in by_x else '' for x in along)])} |"]
    return "\n".join(told)


def _title(tag: str) -> str:
    """A tag in words: tail_index_detail/published/whole_model is "tail index, published, whole model"."""
    return tag.removeprefix("gradient_noise/").replace("_detail", "").replace("/", ", ").replace("_", " ")


def _dress(ax: Axes, tag: str, along: Sequence[float]) -> None:
    if "tail_index" in tag:
        tail_axis(ax)
        ax.set_ylabel("tail index α (2: Gaussian)", fontsize=8)
    elif "acceptance" in tag:
        ax.set_ylim(-0.03, 1.03)
        ax.set_ylabel("share that passes for Gaussian", fontsize=8)
    elif "loss" in tag:
        ax.set_yscale("log")
        ax.set_ylabel("loss", fontsize=8)
    if min(along) > 0 and max(along) / min(along) >= _WIDE:
        ax.set_xscale("log")
    if len(along) <= _MOST_TICKS:
        ax.set_xticks(along, [f"{x:g}" for x in along], rotation=90 if len(along) > 6 else 0, fontsize=8)
        ax.xaxis.set_minor_locator(NullLocator())
        ax.xaxis.set_minor_formatter(NullFormatter())


def drawn_against(runs: Sequence[Run], plan: Plan) -> Figure:
    """Draws a column of panels for each scalar: medians over seeds, bands from least to largest."""
    points = _points(runs, plan)
    rows, tags = _rows(points), plan.tags
    along, lines = sorted({point.along for point in points}), sorted({point.line for point in points})
    figure = Figure(figsize=(1 + 3.2 * len(tags), 1.4 + 2.5 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(tags), squeeze=False, sharex=True)
    for row, (value, own) in zip(axes, rows.items(), strict=True):
        for ax, (tag, surrogate) in zip(row, tags, strict=True):
            surrogates = _of(own, surrogate) if surrogate else {}
            for line, by_x in _of(own, tag).items():
                label = f"{plan.lines} {line}" if plan.lines else "median of the seeds"
                draw_seeds(ax, by_x, lines.index(line), label, surrogates.get(line, {}))
            _dress(ax, tag, along)
            ax.set_title(f"{_title(tag)}{f', {plan.panels} {value}' if plan.panels else ''}", fontsize=8)
    for ax in axes[-1]:
        ax.set_xlabel(_title(plan.along))
    dotted = "\ndotted: Gaussian surrogates" if any(surrogate for _, surrogate in tags) else ""
    figure.suptitle(f"{data_of(runs)}: median and range{_left_out(points, tags)}{dotted}", size=10)
    legend_below(figure, axes.flat)
    return figure


def _left_out(points: Sequence[Point], tags: Sequence[tuple[str, str]]) -> str:
    missing = sum(any(math.isnan(point.values[tag]) for tag, _ in tags) for point in points)
    return f", without {missing} of {len(points)} runs somewhere" if missing else ""
