"""What holds of all figures: what they ask for, and where they draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_tailindex import figures
from lightning_tailindex.distributions import SymmetricStable
from lightning_tailindex.figures import (
    alpha_by_minibatch_size,
    alpha_heatmap,
    alpha_over_steps,
    coordinate_alphas,
    noise_norms,
    noise_qq,
)
from lightning_tailindex.records import Report

from .reports import report, training

OVER_REPORTS: list[Callable[..., Any]] = [alpha_heatmap, alpha_over_steps, coordinate_alphas]


@pytest.mark.parametrize("figure", OVER_REPORTS)
def test_reports_are_asked_for(figure: Callable[..., Any]) -> None:
    with pytest.raises(ValueError, match=rf"{figure.__name__} needs at least one report, got \[\]"):
        figure([])
    with pytest.raises(ValueError, match=f"{figure.__name__} needs reports with measurements, got none at step 7"):
        figure([*training(), Report(7, (), 90, 16, 0.1)])
    with pytest.raises(ValueError, match="noise_norms needs reports with measurements, got none at step 7"):
        noise_norms(Report(7, (), 90, 16, 0.1))


@pytest.mark.parametrize("name", figures.__all__)
def test_what_is_no_report_is_refused_by_its_kind(name: str) -> None:
    figure = getattr(figures, name)
    wanted = "needs an? (Iterate|Sharpness|Spectrum|)(Report|Measurement)( or a (Tensor|SpectrumMeasurement))?, got "
    for given in (torch.nn.Linear(1, 1), [3], "report", [torch.zeros(3)]):
        with pytest.raises(TypeError, match=f"{name} {wanted}"):
            figure([1.0], [given], "step size") if name == "alpha_across_runs" else figure(given)


def test_groups_and_numbers_are_checked() -> None:
    reports, among = training(), "needs a group among 'conv1', 'fc1', 'whole_model', got 'fc9'"
    for draw in (
        coordinate_alphas,
        lambda r, g: alpha_over_steps(r, [g]),
        lambda r, g: alpha_by_minibatch_size(r[0], g),
    ):
        with pytest.raises(ValueError, match=among):
            draw(reports, "fc9")  # type: ignore[operator]
    with pytest.raises(ValueError, match="'layer7' and 993 more, got 'fc9'"):  # not in a hundred lines
        alpha_by_minibatch_size(report(0, **{f"layer{i}": 1.5 for i in range(1000)}), "fc9")
    for draw in (coordinate_alphas, alpha_over_steps):
        with pytest.raises(ValueError, match=f"{draw.__name__} needs most to be at least 1, got 0"):
            draw(reports, most=0)
    for groups in ("fc1", []):
        with pytest.raises(ValueError, match="alpha_over_steps needs groups to be one or several names in a list, got"):
            alpha_over_steps(reports, groups)


def test_figures_draw_to_given_axes_and_leave_pyplot_alone() -> None:
    noise = SymmetricStable(torch.tensor(1.5)).sample((64, 5))
    drawing: list[Callable[[Any], tuple[Figure, Axes]]] = [
        lambda ax: alpha_heatmap(training(), ax=ax),
        lambda ax: alpha_over_steps(training(), ax=ax),
        lambda ax: coordinate_alphas(training(), ax=ax),
        lambda ax: alpha_by_minibatch_size(training()[0], ax=ax),
        lambda ax: noise_qq(training()[0].whole_model, ax=ax),
        lambda ax: noise_norms(noise, ax=ax),
    ]
    before = dict(plt.rcParams)
    for draw in drawing:
        fig, ax = draw(None)
        assert ax in fig.axes
        outer = Figure()
        given_axes = outer.subfigures(1, 2)[1].subplots()
        assert draw(given_axes) == (outer, given_axes)
        assert given_axes.has_data()
    assert plt.get_fignums() == []
    assert dict(plt.rcParams) == before
