"""The sharpness over steps: what is drawn, read off the axes."""

from __future__ import annotations

import math

import pytest
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from numpy.testing import assert_allclose

from lightning_tailindex.figures import sharpness_over_steps

from .reports import sharpness_report, sharpness_reports


def test_lines_are_the_eigenvalues_and_the_limit_over_the_step_size() -> None:
    fig, ax = sharpness_over_steps(sharpness_reports()[::-1])  # in any order
    largest, second, limit = ax.lines
    for line in ax.lines:
        assert_allclose(line.get_xdata(), [0, 100, 200])
    assert_allclose(largest.get_ydata(), [4, 12, 19])
    assert_allclose(second.get_ydata(), [2, math.nan, 6])
    assert_allclose(limit.get_ydata(), [20, 20, 40])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["largest eigenvalue", "eigenvalue 2", "stable below this\n(limit / step size)"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("optimizer step", "eigenvalue λ")
    fig.draw_without_rendering()
    assert plt.get_fignums() == []


@pytest.mark.parametrize(("step_size", "limit"), [(0.1, math.nan), (0.0, 2.0)])
def test_no_limit_is_drawn_where_there_is_none(step_size: float, limit: float) -> None:
    _, ax = sharpness_over_steps(sharpness_report(0, 4.0, step_size=step_size, limit=limit))
    assert len(ax.lines) == 1


def test_it_draws_to_given_axes_and_asks_for_reports() -> None:
    outer = Figure()
    given = outer.subplots()
    assert sharpness_over_steps(sharpness_reports(), ax=given) == (outer, given)
    with pytest.raises(ValueError, match=r"sharpness_over_steps needs at least one report, got \[\]"):
        sharpness_over_steps([])
