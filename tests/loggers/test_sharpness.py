"""The sharpness in real TensorBoard files, read back by tag and step, beside the gradient noise's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from lightning_tailindex import SharpnessMonitor

from .training import events_in, fit, monitor, text


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[SharpnessMonitor, EventAccumulator]:
    folder, watcher = tmp_path_factory.mktemp("run"), SharpnessMonitor(10, 2, figures_every=2, on_error="raise")
    fit(TensorBoardLogger(folder, "", ""), watcher, monitor(every_n_steps=30, figures=None))
    return watcher, events_in(folder)


TAGS: dict[str, Any] = {
    "sharpness/largest_eigenvalue": lambda report: report.eigenvalues[0],
    "sharpness/eigenvalue_2": lambda report: report.eigenvalues[1],
    "sharpness/trace": lambda report: report.trace,
    "sharpness/trace_error": lambda report: report.trace_error,
    "sharpness/step_size_times_eigenvalue": lambda report: 0.1 * report.eigenvalues[0],
    "sharpness/stability_limit": lambda report: 2,
    "sharpness/residual": lambda report: report.residuals[0],
    "sharpness/loss": lambda report: report.loss,
    "sharpness/products": lambda report: report.num_products,
    "sharpness/cost_seconds": lambda report: report.seconds,
}


def test_scalars_are_those_of_the_reports(run: tuple[SharpnessMonitor, EventAccumulator]) -> None:
    watcher, events = run
    assert {tag for tag in events.Tags()["scalars"] if tag.startswith("sharpness")} == set(TAGS)
    for tag, value in TAGS.items():
        found = [(event.step, event.value) for event in events.Scalars(tag)]
        assert [step for step, _ in found] == [0, 10, 20, 30]
        assert [number for _, number in found] == pytest.approx([value(report) for report in watcher.reports])


def test_the_figure_is_drawn_every_so_often_and_at_the_end(run: tuple[SharpnessMonitor, EventAccumulator]) -> None:
    images = run[1].Images("sharpness_figures/sharpness_over_steps")
    assert [image.step for image in images] == [0, 20, 30]
    assert images[0].encoded_image_string != images[-1].encoded_image_string


def test_charts_of_both_monitors_stand_on_one_page(run: tuple[SharpnessMonitor, EventAccumulator]) -> None:
    events = run[1]
    (string,) = events.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val
    charts = {each.title: each.chart for each in Layout.FromString(string).category}
    assert set(charts) == {"Sharpness of the training loss", "Tail index of the gradient noise"}
    eigenvalues, stability = charts["Sharpness of the training loss"]
    tags = events.Tags()["scalars"]
    shown = [
        [tag for tag in tags if re.match(line, tag)] for line in (*eigenvalues.multiline.tag, *stability.multiline.tag)
    ]
    assert shown == [
        ["sharpness/largest_eigenvalue"],
        ["sharpness/eigenvalue_2"],
        ["sharpness/step_size_times_eigenvalue"],
        ["sharpness/stability_limit"],
    ]


def test_a_text_says_what_was_measured_and_how(run: tuple[SharpnessMonitor, EventAccumulator]) -> None:
    watcher, events = run
    said = dict(line.strip("| ").split(" | ") for line in text(events, "sharpness_setup").splitlines()[2:])
    assert said["measured"] == f"the Hessian of 44 parameters, by {watcher.reports[0].num_products} products"
    assert said["minibatches"] == "4 of 4 samples, the same at every step"
    assert said["note"] == "nothing special"
    assert "every 10 optimizer steps (at most 4 measurements" in said["schedule"]


def test_without_a_trace_there_is_none(tmp_path: Path) -> None:
    fit(TensorBoardLogger(tmp_path, "", ""), SharpnessMonitor(20, trace_samples=None, figures=None, on_error="raise"))
    tags = events_in(tmp_path).Tags()
    assert "sharpness/largest_eigenvalue" in tags["scalars"]
    assert not [tag for tag in tags["scalars"] if "trace" in tag]
    assert tags["images"] == []
