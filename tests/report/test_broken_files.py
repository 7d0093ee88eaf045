"""Files that are broken, empty or not ours are told of, and the rest is read."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from tensorboard.compat.proto.summary_pb2 import HistogramProto, Summary
from torch.utils.tensorboard import SummaryWriter

from lightning_tailindex.records import Report
from lightning_tailindex.report import page, read_runs
from lightning_tailindex.report.hparams import plain, read_hparams

from .trained import event_file

Sweep = tuple[Path, Mapping[str, tuple[Report, ...]]]


@pytest.fixture
def copy(sweep: Sweep, tmp_path: Path) -> Path:
    """A copy of one run, for whoever breaks it."""
    return Path(shutil.copytree(sweep[0] / "narrow", tmp_path / "copy"))


def test_a_file_that_is_cut_off_is_read_up_to_there(copy: Path) -> None:
    file = event_file(copy)
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    (run,), problems = read_runs([copy])
    assert [report.step for report in run.reports] == [0, 10]
    assert len(problems) in (1, 2)  # the end may fall between two steps
    assert f"{file}: the file is broken or cut off after" in problems[0]
    assert "events before are read" in problems[0]


def test_a_step_without_the_whole_model_is_left_out(copy: Path) -> None:
    with SummaryWriter(str(copy), filename_suffix=".z") as writer:
        writer.add_scalar("tail_index/first", 1.5, 30)
    (run,), problems = read_runs([copy])
    assert [report.step for report in run.reports] == [0, 10, 20]
    assert problems == [f"{copy}: no tail index of the whole model at step 30, left out"]


def test_a_file_that_is_broken_in_the_middle(copy: Path) -> None:
    file = event_file(copy)
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 255
    file.write_bytes(bytes(content))
    (run,), problems = read_runs([copy])
    assert len(run.reports) in (1, 2)
    assert "the file is broken or cut off" in problems[0]


def test_others_are_read_beside_what_is_empty_foreign_or_missing(copy: Path, tmp_path: Path) -> None:
    for name in ("empty", "noise", "foreign", "nothing", "directory"):
        (tmp_path / name).mkdir()
    (tmp_path / "empty/events.out.tfevents.1").touch()
    (tmp_path / "noise/events.out.tfevents.1").write_bytes(b"<script>" * 100)
    (tmp_path / "directory/events.out.tfevents.1").mkdir()
    with SummaryWriter(str(tmp_path / "foreign")) as writer:
        writer.add_scalar("loss", 1.0, 0)
        writer.add_text("tail", "of another kind", 0)
    names = ["empty", "noise", "copy", "foreign", "nothing", "directory", "missing"]
    runs, problems = read_runs([tmp_path / name for name in names])
    assert [run.name for run in runs] == [str(copy)]
    assert [problem.removeprefix(f"{tmp_path}/") for problem in problems][:-1] == [
        "nothing: no event files of TensorBoard in it or below it",
        "missing: there is no such file or folder",
        "empty/events.out.tfevents.1: the file is empty",
        "noise/events.out.tfevents.1: the file is broken or cut off after 0 of 800 bytes",
        "foreign: 3 events, but none that TailIndexMonitor has logged in full",
    ]
    assert "directory/events.out.tfevents.1: " in problems[-1]


def test_records_that_are_no_events(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.file_writer.event_writer._async_writer.write(b"\xff\xff")  # a record with its checksums right
    runs, (problem, *more) = read_runs([tmp_path])
    assert runs == []
    assert "Error parsing message" in problem
    assert len(more) == 1


@pytest.mark.parametrize(("limits", "counts"), [([1.0], [2.0]), ([1.0, 2.0], [2.0]), ([1.0, 2.0], [math.nan, 1.0])])
def test_histograms_of_another_kind_are_passed_over(copy: Path, limits: list[float], counts: list[float]) -> None:
    histogram = HistogramProto(bucket_limit=limits, bucket=counts)
    with SummaryWriter(str(copy), filename_suffix=".z") as writer:
        tag = "standardized_noise/whole_model"
        writer.file_writer.add_summary(Summary(value=[Summary.Value(tag=tag, histo=histogram)]), 20)
    (run,), problems = read_runs([copy])
    assert problems == []
    assert sum(run.reports[-1].whole_model.standardized_noise.counts) > 0


SIZE, DRAWS = "gradient_noise/minibatch_size/whole_model", "gradient_noise/draws/whole_model"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("tag", [SIZE, DRAWS])
def test_numbers_that_are_not_finite_count_nothing(tag: str, value: float, tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for each in (SIZE, DRAWS):
            writer.add_scalar(each, value if each == tag else 8.0, 0)
        writer.add_scalar("tail_index/whole_model", 1.7, 0)
    (run,), problems = read_runs([tmp_path])
    assert problems == []
    (report,) = run.reports
    counts = {SIZE: report.minibatch_size, DRAWS: report.whole_model.num_draws}
    assert counts == {SIZE: 8, DRAWS: 8, tag: 0}
    assert "1.7" in page([run])


@pytest.mark.parametrize("tag", ["tail_index_setup", "tail_index_law"])
@pytest.mark.parametrize("text", ["|a", "|", "| headline |", "| a | b |\n|---|---|\n|a"])
def test_texts_that_are_no_tables_of_ours_are_passed_over(tag: str, text: str, tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_text(tag, text, 0)
        writer.add_scalar("tail_index/whole_model", 1.7, 0)
    (run,), problems = read_runs([tmp_path])
    assert problems == []
    assert run.reports[0].whole_model.estimator == "the run's first estimator"
    assert run.settings == {}
    assert "1.7" in page([run])


def test_what_is_of_another_kind_than_ours_is_passed_over(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("tail_index/whole_model", 1.7, 0)
        writer.add_scalar("standardized_noise/whole_model", 3.0, 0)
        for tag in (SIZE, DRAWS, "tail_index/whole_model", "tail_index_detail/low/whole_model"):
            writer.add_histogram(tag, torch.arange(9.0), 0)
    (run,), problems = read_runs([tmp_path])
    assert problems == []
    (report,) = run.reports
    assert (report.minibatch_size, report.whole_model.num_draws) == (0, 0)
    assert math.isnan(report.whole_model.low)
    assert sum(report.whole_model.standardized_noise.counts) == 0
    assert "1.7" in page([run])


@pytest.mark.parametrize(
    ("text", "values", "problem"),
    [
        ("", {}, ""),
        ("a: 1\nb: {c: 2.5, d: {}}", {"a": 1, "b/c": 2.5, "b/d": "{}"}, ""),
        ("a: !!python/tuple [1, 2]", {"a": "[1, 2]"}, ""),
        ("a: !!python/name:os.system ''\nb: !!python/object:x.Y {c: 3}", {"a": "tag", "b/c": 3}, ""),
        ("a: .nan\nb: true\nc: null", {"a": "nan", "b": "True", "c": "None"}, ""),
        ("a: &a [*a]", {"a": None}, ""),
        ("a: [1", {}, "hyperparameters cannot be read: ParserError"),
        ("? [a]\n: 1", {}, "hyperparameters cannot be read: ConstructorError"),
        ("a: !!bool foo", {}, "hyperparameters cannot be read: KeyError"),
        ("a: !!int ''", {}, "hyperparameters cannot be read: IndexError"),
        ("a: !!timestamp foo", {}, "hyperparameters cannot be read: AttributeError"),
        (f"a: 1{'0' * 400}", {"a": None}, ""),
        ("just words", {}, "hyperparameters are no names with values"),
        ("a: {b: {c: {d: {e: 1}}}}", {"a/b/c/d": "{'e': 1}"}, ""),
    ],
)
def test_hyperparameters_in_yaml(tmp_path: Path, text: str, values: dict[str, object], problem: str) -> None:
    (tmp_path / "hparams.yaml").write_text(text)
    found, said = read_hparams(tmp_path)
    assert found.keys() == values.keys()
    assert all(found[name] == value for name, value in values.items() if value not in (None, "tag"))
    assert said.removeprefix(f"{tmp_path}/hparams.yaml: ") == problem


def test_no_object_of_python_is_made_from_yaml(tmp_path: Path) -> None:
    made = tmp_path / "made"
    (tmp_path / "hparams.yaml").write_text(f"a: !!python/object/apply:pathlib.Path.touch ['{made}']")
    assert read_hparams(tmp_path) == ({"a": plain([str(made)])}, "")
    assert not made.exists()


def test_long_values_are_cut() -> None:
    assert plain("a" * 1000) == "a" * 120 + "…"
    assert plain(list(range(100))) == "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ...]"
    doubled: list[object] = []
    for _ in range(60):
        doubled = [doubled, doubled]  # 2**60 lists, if they were written out
    assert len(str(plain(doubled))) <= 121
