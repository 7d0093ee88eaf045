"""The tail index of several runs against what varied between them."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from itertools import pairwise

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from lightning_tailindex.records import Report

from ._canvas import STABLE, dress, figure_of, look, new_axes, shortened
from ._choice import in_order, median_alpha
from ._intervals import draw_alphas, finish_alphas

__all__ = ["alpha_across_runs"]

_WIDE = 10  # times the least value: from there on the axis is logarithmic
_MOST_TICKS = 8  # where each value has its own
_CLEAR = 0.08  # of the axis, from one value to the next, that leaves room for a tick at each
_ROOM = 50  # characters of words that are written straight
_SPREAD, _MOST_SPREAD = 0.5, 0.15  # of the gap to the next value, and of the axis, over which runs of one are spread


def alpha_across_runs(
    values: Sequence[float | str],
    runs: Sequence[Report | Sequence[Report]],
    name: str,
    *,
    rest: Sequence[Hashable] | None = None,
    last: int = 5,
    ax: Axes | None = None,
) -> tuple[Figure, Axes]:
    """Draws the whole model's tail index in several runs against a hyperparameter in which they differ.

    Of each run the last report is drawn with its 95 % interval and its Gaussian surrogate, and as a diamond the median
    of the last few reports, which says whether the last one stands for them. Where runs differ in more than one
    hyperparameter, what the others do is in the picture too: a line joins runs that are alike in all the rest. Runs of
    one value stand side by side around its tick.

    Args:
        values: The hyperparameter of each run; a word, NaN or infinity among them makes all of them categories.
            Positive numbers of which the largest is more than 10 times the least have a logarithmic axis.
        runs: One report or several of each run; of their first estimator.
        name: What the hyperparameter is called.
        rest: What else is different, one object for each run, such as a tuple of the other hyperparameters; a line
            joins runs of equal ones. None for no lines.
        last: Reports at the end of a run that the median is of, at least 1.
        ax: Axes to draw to; None makes a new figure.

    Returns:
        The figure and its axes; x is the hyperparameter, y the tail index without a unit.

    Raises:
        TypeError: If something is no report.
        ValueError: If there is no run, one without a report, not one value or rest for each, or ``last`` is below 1.

    Example:
        >>> fig, ax = alpha_across_runs([0.01, 0.1, 1.0], [reports[:1], reports[:2], reports], "step size")
        >>> ax.get_xscale()
        'log'
    """
    if not runs or len(values) != len(runs):
        raise ValueError(f"alpha_across_runs needs one value for each of some runs, got {len(values)} for {len(runs)}.")
    if rest is not None and len(rest) != len(runs):
        raise ValueError(f"alpha_across_runs needs one rest for each run, got {len(rest)} for {len(runs)}.")
    if last < 1:
        raise ValueError(f"alpha_across_runs needs last to be at least 1, got {last}.")
    ordered = [in_order("alpha_across_runs", reports) for reports in runs]
    found = [[report.whole_model for report in reports] for reports in ordered]
    ax = new_axes(7.2, 3.8)[0] if ax is None else ax
    places = _places(ax, values)
    draw_alphas(ax, places, [ms[-1] for ms in found], "last report, 95 % interval", {**STABLE, "linestyle": "none"})
    ax.plot(
        places,
        [median_alpha(ms[-last:]) for ms in found],
        color=look(2)["color"],
        marker="D",
        markersize=9,
        markerfacecolor="none",
        linestyle="none",
        label=_of_the_last([min(last, len(ms)) for ms in found]),
    )
    _join(ax, places, [ms[-1].alpha for ms in found], range(len(runs)) if rest is None else rest)
    dress(ax, _title([reports[-1].step for reports in ordered]), shortened([name])[0], "tail index α (2: Gaussian)")
    finish_alphas(ax)
    return figure_of(ax), ax


def _of_the_last(numbers: list[int]) -> str:
    return f"median of the last {max(numbers)}{' or fewer' if min(numbers) < max(numbers) else ''}"


def _title(steps: list[int]) -> str:
    """Tells the steps of the last reports if they differ: the tail index changes over a training."""
    own = f"\nlast reports at steps {min(steps)} to {max(steps)}" if min(steps) < max(steps) else ""
    return f"Tail index of the whole model in {len(steps)} runs{own}"


def _join(ax: Axes, places: list[float], alphas: list[float], rest: Sequence[Hashable]) -> None:
    label = "alike in all the rest"
    for one in dict.fromkeys(rest):
        points = sorted((place, alpha) for place, alpha, own in zip(places, alphas, rest, strict=True) if own == one)
        if len(points) > 1:
            ax.plot(*zip(*points, strict=True), color="0.55", linewidth=1, zorder=0, label=label)
            label = "_"  # one line in the legend


def _places(ax: Axes, values: Sequence[float | str]) -> list[float]:
    """Finds where each run stands, and makes the axis such that it can be read there."""
    numbers = [float(value) for value in values if not isinstance(value, str) and math.isfinite(value)]
    if len(numbers) < len(values):
        return _categories(ax, values)
    distinct = sorted(set(numbers))
    if distinct[0] <= 0 or distinct[-1] <= _WIDE * distinct[0]:
        if min((b - a for a, b in pairwise(distinct)), default=1.0) >= _CLEAR * (distinct[-1] - distinct[0]):
            _tick(ax, distinct)
        return _side_by_side(numbers)
    ax.set_xscale("log")
    _tick(ax, distinct)
    return [math.exp(place) for place in _side_by_side([math.log(number) for number in numbers])]


def _tick(ax: Axes, values: Sequence[float]) -> None:
    """Puts ticks where runs can be, so that those that stand beside one are read as having its value."""
    ax.xaxis.set_major_locator(FixedLocator(values[:: -(-len(values) // _MOST_TICKS)]))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_locator(NullLocator())


def _categories(ax: Axes, values: Sequence[float | str]) -> list[float]:
    """Finds where runs stand on an axis of words, which come behind the numbers."""
    words = [value if isinstance(value, str) else f"{value:g}" for value in values]
    ascending = sorted(zip(values, words, strict=True), key=_number)
    names = list(dict.fromkeys(word for _, word in ascending))
    labels = shortened(names)
    ax.set_xticks(range(len(names)), labels, rotation=20 if len(names) > 3 or sum(map(len, labels)) > _ROOM else 0)
    ax.set_xlim(-0.6, len(names) - 0.4)
    return _side_by_side([float(names.index(word)) for word in words])


def _number(each: tuple[float | str, str]) -> float:
    return each[0] if not isinstance(each[0], str) and math.isfinite(each[0]) else math.inf


def _side_by_side(places: list[float]) -> list[float]:
    """Spreads the runs of one place, so that their intervals do not hide each other."""
    distinct = sorted(set(places))
    gap = min((b - a for a, b in pairwise(distinct)), default=1.0)
    room = min(_SPREAD * gap, _MOST_SPREAD * ((distinct[-1] - distinct[0]) or 1.0))
    seen, spread = dict.fromkeys(distinct, 0), list[float]()
    for place in places:
        many = places.count(place)
        spread.append(place + room * (seen[place] / (many - 1) - 0.5 if many > 1 else 0.0))
        seen[place] += 1
    return spread
