"""The figure of the iterates' tail index."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from matplotlib.figure import Figure

from lightning_tailindex.figures import iterate_alphas
from lightning_tailindex.records import IterateEstimate, IterateMeasurement, IterateReport

GROUPS = ("a", "b", "c", "whole_model")


def report(step: int, alphas: Sequence[float]) -> IterateReport:
    measurements = tuple(
        IterateMeasurement(
            group,
            8,
            8,
            0.1,
            (
                IterateEstimate("ergodic_average", alpha, alpha - 0.1, alpha + 0.1),
                IterateEstimate("deviation", 2.0, 1.9, math.inf),
            ),
        )
        for group, alpha in zip(GROUPS, alphas, strict=True)
    )
    return IterateReport(step, measurements, (), 8.0, 16, 0, 16, 1, "same", 0.1)


REPORTS = [report(32, (1.0, math.nan, 1.6, 1.5)), report(16, (1.9, 1.2, 1.7, 1.8))]


def test_the_lowest_groups_and_the_whole_model_are_drawn_in_order_of_steps() -> None:
    fig, ax = iterate_alphas(REPORTS, most=2)
    assert isinstance(fig, Figure)
    lines = {bar.get_label(): bar.lines[0] for bar in ax.containers}  # type: ignore[union-attr]
    assert list(lines) == ["a", "c", "whole_model"]
    assert lines["a"].get_xdata().tolist() == [16, 32]  # type: ignore[union-attr]
    assert lines["a"].get_ydata().tolist() == [1.9, 1.0]  # type: ignore[union-attr]
    assert "the 2 of 3 groups with the lowest last α" in ax.get_title()


def test_what_has_no_number_is_a_gap_and_what_has_no_end_is_left_open() -> None:
    _, ax = iterate_alphas(REPORTS)
    (alpha,) = [bar.lines[0].get_ydata() for bar in ax.containers if bar.get_label() == "b"]  # type: ignore[union-attr]
    assert alpha[0] == 1.2
    assert math.isnan(alpha[1])
    iterate_alphas(REPORTS, "deviation")[0].canvas.draw()  # an infinite end of an interval


def test_a_report_of_other_replicas_is_a_gap() -> None:
    """A run resumed with another argument has such reports before those that have what is drawn."""
    own = IterateEstimate("worker_0", 1.4, 1.3, 1.5)
    each = report(64, (1.9, 1.2, 1.7, 1.8))
    each = replace(each, measurements=tuple(replace(m, estimates=(*m.estimates, own)) for m in each.measurements))
    _, ax = iterate_alphas([*REPORTS, each], "worker_0")
    drawn = [bar.lines[0].get_ydata() for bar in ax.containers]  # type: ignore[union-attr]
    assert len(drawn) == 4
    assert all([math.isnan(alpha) for alpha in alphas] == [True, True, False] for alphas in drawn)
    with pytest.raises(ValueError, match="got 'worker_0'"):  # the last report says what there is
        iterate_alphas([*REPORTS, replace(each, step=8)], "worker_0")


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match=r"at least one report, got \[\]"):
        iterate_alphas([])
    with pytest.raises(ValueError, match=r"what to be among \['ergodic_average', 'deviation'\], got 'worker_0'"):
        iterate_alphas(REPORTS, "worker_0")
    with pytest.raises(ValueError, match="most to be at least 1, got 0"):
        iterate_alphas(REPORTS, most=0)
