"""Runs as one page that needs nothing beside itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from lightning_tailindex.records import Measurement, Report

from .compare import LAST, MINIBATCH_SIZE, last_median, varied
from .hparams import Value
from .pictures import Picture, of_comparison, of_run
from .progress import Progress, silent
from .runs import Run
from .words import said

__all__ = ["page"]

_MOST_COLUMNS = 6  # hyperparameters in the table of runs
_MOST_COMPARED = 12  # hyperparameters with a figure of their own


@dataclass(frozen=True)
class _Section:
    """What the page says of one run: its place in the page, and its parts."""

    anchor: str
    run: Run
    said: list[str]
    pictures: list[Picture]

    @property
    def last(self) -> Report:
        """The last report."""
        return self.run.reports[-1]

    @property
    def groups(self) -> tuple[Measurement, ...]:
        """What the first estimator says of each group, at last."""
        return self.last.headline

    @property
    def further(self) -> list[Measurement]:
        """What further estimators say."""
        first = self.last.whole_model.estimator
        return [measurement for measurement in self.last.measurements if measurement.estimator != first]

    @property
    def last_median(self) -> float:
        """The median tail index of the whole model over the last reports."""
        return last_median(self.run)


def _number(value: float, digits: str = ".2f") -> str:
    return "–" if math.isnan(value) else format(value, digits)


def _interval(measurement: Measurement) -> str:
    known = not (math.isnan(measurement.low) or math.isnan(measurement.high))
    return f"{measurement.low:.2f}–{measurement.high:.2f}" if known else "–"


def _value(value: Value) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("lightning_tailindex.report"),
        autoescape=True,  # whatever files hold is text
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=_number, interval=_interval, value=_value)
    return environment


def page(runs: Sequence[Run], problems: Sequence[str] = (), progress: Progress = silent) -> str:
    """Makes the page.

    Args:
        runs: The runs, at least one.
        problems: What could not be read, in words.
        progress: Shows how far it is.

    Returns:
        HTML with its style and its figures in it; it loads nothing and runs nothing.

    Raises:
        ValueError: If there is no run.
    """
    if not runs:
        raise ValueError("page needs at least one run, got none.")
    differing = varied(runs)
    compared = list(differing)[:_MOST_COMPARED]
    hyperparameters = [name for name in differing if name != MINIBATCH_SIZE]  # that has its column anyway
    drawn = enumerate(progress(runs, "drawing"), start=1)
    return (
        _environment()
        .get_template("page.html")
        .render(
            sections=[_Section(f"run-{i}", run, said(run.reports), of_run(run)) for i, run in drawn],
            problems=problems,
            columns={name: differing[name] for name in hyperparameters[:_MOST_COLUMNS]},
            more_columns=len(hyperparameters[_MOST_COLUMNS:]),
            comparisons=[of_comparison(runs, differing, name) for name in compared],
            differing=list(differing),
            steps=[run.reports[-1].step for run in runs],
            most_last=LAST,
        )
    )
