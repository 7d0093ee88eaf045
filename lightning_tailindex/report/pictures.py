"""Figures as images inside the page."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_tailindex import figures
from lightning_tailindex.figures._choice import few_enough
from lightning_tailindex.records import Report

from .compare import LAST, rest_of
from .hparams import Value
from .runs import Run

__all__ = ["Picture", "of_comparison", "of_run"]

_MOST_GROUPS = 6  # that lines tell apart; beyond, the heat map is drawn too
_MOST_CATEGORIES = 12
_WIDE = 2.4  # times its height

Drawn = tuple[Figure, Axes | Sequence[Axes]]


@dataclass(frozen=True)
class Picture:
    """A figure in the page.

    Attributes:
        image: The figure as a ``data:`` address; empty if there is none.
        text: What it shows, in words, for whoever does not see it; or why there is none.
        is_wide: Whether it needs the whole width of the page.
    """

    image: str
    text: str
    is_wide: bool = False


def _drawn(draw: Callable[[], Drawn], text: str) -> Picture:
    """Draws a figure as an image of its own, in which nothing can run or be loaded."""
    # of the same reports the same bytes; a name in letters that the font lacks is drawn as boxes
    with mpl.rc_context({"svg.hashsalt": "lightning_tailindex"}), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            figure, _ = draw()
            figure.savefig(buffer := io.BytesIO(), format="svg", metadata={"Date": None, "Creator": None})
        except ValueError as error:
            return Picture("", f"Not drawn: {error}")
    width, height = figure.get_size_inches()
    image = f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Picture(image, text, is_wide=width > _WIDE * height)


def _literal(name: str) -> str:
    """Writes a name such that Matplotlib draws it as it is: no mathematics, nothing that an image may not hold."""
    printable = (letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in name)
    return "".join(printable).replace("$", r"\$")


def _drawable(reports: Sequence[Report]) -> list[Report]:
    """No more than a hundred reports, the last one among them, with names that can be drawn."""
    return [
        replace(report, measurements=tuple(replace(m, group=_literal(m.group)) for m in report.measurements))
        for report in few_enough(reports)
    ]


def of_run(run: Run) -> list[Picture]:
    """Draws one run.

    Args:
        run: The run.

    Returns:
        The tail index over steps, as a heat map too where there are many groups; of the whole model its density, its
        coordinates' own tail indices, and its averages of minibatches.
    """
    reports, name = _drawable(run.reports), run.name
    last, number = reports[-1], len({m.group for m in run.reports[-1].measurements})
    drawn = [
        _drawn(
            lambda: figures.alpha_over_steps(reports),
            f"Tail index over optimizer steps in {name}, with intervals, beside the Gaussian surrogates.",
        )
    ]
    if number > _MOST_GROUPS:
        drawn.append(
            _drawn(lambda: figures.alpha_heatmap(reports), f"Heat map of the tail index of {number} groups in {name}.")
        )
    return [
        *drawn,
        _drawn(
            lambda: figures.coordinate_alphas(reports),
            f"Histograms of the coordinates' own tail indices in {name}, at up to four steps.",
        ),
        _drawn(
            lambda: figures.alpha_by_minibatch_size(last),
            f"Tail index of averages of minibatches in {name} at step {last.step}, beside the Gaussian surrogate.",
        ),
        _drawn(
            lambda: figures.noise_density(last.whole_model),
            f"Density of the standardized noise of {name} at step {last.step}, beside a stable law and a Gaussian.",
        ),
    ]


def of_comparison(runs: Sequence[Run], differing: Mapping[str, Sequence[Value]], name: str) -> Picture:
    """Draws the tail index of the whole model in all runs against what varied.

    Args:
        runs: The runs.
        differing: All in which the runs differ, by name, with the value of each run.
        name: The hyperparameter.

    Returns:
        The figure; none if the values are too many words.
    """
    values = differing[name]
    if any(isinstance(value, str) for value in values) and len(set(values)) > _MOST_CATEGORIES:
        return Picture("", f"Not drawn: {name} has {len(set(values))} values that are no numbers.")
    reports = [_drawable(run.reports[-LAST:]) for run in runs]
    words = [_literal(value) if isinstance(value, str) else value for value in values]
    text = f"Tail index of the whole model against {name}, with intervals, beside the Gaussian surrogates."
    rest = rest_of(differing, name)
    return _drawn(lambda: figures.alpha_across_runs(words, reports, _literal(name), rest=rest, last=LAST), text)
