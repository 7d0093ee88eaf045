"""The tail index of runs against what varied between them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from lightning_tailindex.figures import alpha_across_runs
from lightning_tailindex.records import Report

from .reports import report, training


def runs(*alphas: float) -> list[Report]:
    return [report(0, fc1=alpha) for alpha in alphas]


def line(ax: Any, label: str) -> Any:
    (found,) = [each for each in ax.get_lines() if each.get_label() == label]
    return found


def points(ax: Any) -> list[tuple[float, float]]:
    """Where the last reports are drawn."""
    (bars,) = [each for each in ax.containers if each.get_label() == "last report, 95 % interval"]
    return [tuple(point) for point in bars[0].get_xydata()]


def test_numbers_stand_where_they_are() -> None:
    _, ax = alpha_across_runs([2, 8, 4], runs(1.0, 1.5, 1.2), "depth")
    assert points(ax) == [(2, 1.0), (8, 1.5), (4, 1.2)]
    assert (ax.get_xscale(), ax.get_xlabel()) == ("linear", "depth")


def test_a_wide_span_has_a_logarithmic_axis_with_its_own_values() -> None:
    _, ax = alpha_across_runs([0.01, 0.3, 0.1], runs(1.0, 1.5, 1.2), "step size")
    assert ax.get_xscale() == "log"
    assert list(ax.get_xticks()) == [0.01, 0.1, 0.3]
    for values in ([1.0, 10.0], [0.0, 100.0], [-1.0, 100.0]):
        assert alpha_across_runs(values, runs(1.0, 1.5), "x")[1].get_xscale() == "linear"
    _, ax = alpha_across_runs([2.0**k for k in range(20)], runs(*[1.5] * 20), "width")
    assert len(ax.get_xticks()) <= 8


def test_ticks_are_where_runs_can_be_unless_they_were_too_close_to_read() -> None:
    _, ax = alpha_across_runs([16, 64, 16], runs(1.0, 1.5, 1.2), "minibatch size")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["16", "64"]
    assert points(ax)[0][0] < 16 < points(ax)[2][0]
    _, ax = alpha_across_runs([1.0, 1.01, 2.0], runs(1.0, 1.5, 1.2), "close")
    assert not {1.0, 1.01} <= set(ax.get_xticks())
    _, ax = alpha_across_runs([7.0, 7.0], runs(1.0, 1.5), "one value")
    assert list(ax.get_xticks()) == [7.0]


def test_words_are_categories() -> None:
    _, ax = alpha_across_runs(["sgd", 0.5, "adam", "sgd"], runs(1.0, 1.5, 1.2, 1.1), "optimizer")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.5", "sgd", "adam"]
    assert [round(x) for x, _ in points(ax)] == [1, 0, 2, 1]
    _, ax = alpha_across_runs([math.inf, 0.5, math.nan], runs(1.0, 1.5, 1.2), "gradient clipping")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["0.5", "inf", "nan"]
    _, ax = alpha_across_runs([20, "not given", 2, 10000], runs(1.0, 1.5, 1.2, 1.1), "every_n_steps")
    assert [label.get_text() for label in ax.get_xticklabels()] == ["2", "20", "10000", "not given"]


@pytest.mark.parametrize("values", [[0.1, 0.1, 0.1, 2.0], [1.0, 1.0, 1.0, 2.0], ["a", "a", "a", "b"], [3.0] * 4])
def test_runs_of_one_value_stand_side_by_side(values: list[float | str]) -> None:
    _, ax = alpha_across_runs(values, runs(1.0, 1.5, 1.2, 1.3), "x")
    x = [place for place, _ in points(ax)]
    assert x[0] < x[1] < x[2] < (math.inf if values[3] == 3.0 else x[3])
    if ax.get_xscale() == "linear" and isinstance(values[0], float):
        assert sum(x[:3]) / 3 == pytest.approx(values[0], abs=0.1)


def test_a_line_joins_runs_that_are_alike_in_the_rest() -> None:
    rest = ["relu", "tanh", "relu", "relu"]
    _, ax = alpha_across_runs([8.0, 4.0, 2.0, 4.0], runs(1.0, 1.5, 1.2, 1.1), "width", rest=rest)
    _, of_array = alpha_across_runs([8.0, 4.0, 2.0, 4.0], runs(1.0, 1.5, 1.2, 1.1), "width", rest=np.array(rest))
    assert len(of_array.get_lines()) == len(ax.get_lines())
    joined = line(ax, "alike in all the rest").get_xydata()
    assert joined[:, 1].tolist() == pytest.approx([1.2, 1.1, 1.0])
    assert joined[:, 0].tolist() == sorted(joined[:, 0].tolist())
    _, ax = alpha_across_runs([8.0, 4.0], runs(1.0, 1.5), "width")
    assert not [each for each in ax.get_lines() if each.get_label() == "alike in all the rest"]


def test_the_median_is_of_the_last_reports() -> None:
    several = [report(step, fc1=alpha) for step, alpha in enumerate((1.9, 1.0, math.nan, 1.2))]
    _, ax = alpha_across_runs([1.0, 2.0], [several, report(0, fc1=math.nan)], "x", last=3)
    medians = line(ax, "median of the last 3 or fewer").get_ydata()
    assert medians[0] == pytest.approx(1.1)
    assert math.isnan(medians[1])
    assert points(ax)[0] == (1.0, 1.2)


def test_the_title_tells_that_last_reports_are_of_different_steps() -> None:
    _, ax = alpha_across_runs([1.0, 2.0], [report(900, fc1=1.0), report(300, fc1=1.5)], "x")
    assert "last reports at steps 300 to 900" in ax.get_title()
    _, ax = alpha_across_runs([1.0, 2.0], [report(900, fc1=1.0), report(900, fc1=1.5)], "x")
    assert "last reports" not in ax.get_title()


def test_surrogates_of_different_runs_are_not_joined() -> None:
    _, ax = alpha_across_runs([1.0, 2.0], runs(1.0, 1.5), "x")
    (surrogates,) = [each for each in ax.get_lines() if list(each.get_ydata()) == [1.98, 1.98]]
    assert surrogates.get_linestyle() == "None"


def test_it_draws_to_given_axes() -> None:
    fig = Figure()
    ax = fig.subplots()
    assert alpha_across_runs([1.0, 2.0, 3.0], training(), "x", ax=ax) == (fig, ax)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([], [], "x"), "needs one value for each of some runs, got 0 for 0"),
        (([1.0], training(), "x"), "needs one value for each of some runs, got 1 for 3"),
        (([1.0], [[]], "x"), "needs at least one report"),
    ],
)
def test_bad_arguments_are_named(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=f"alpha_across_runs {message}"):
        alpha_across_runs(*arguments)


def test_bad_options_are_named() -> None:
    with pytest.raises(ValueError, match="alpha_across_runs needs last to be at least 1, got 0"):
        alpha_across_runs([1.0], runs(1.0), "x", last=0)
    with pytest.raises(ValueError, match="alpha_across_runs needs one rest for each run, got 2 for 1"):
        alpha_across_runs([1.0], runs(1.0), "x", rest=[1, 2])
