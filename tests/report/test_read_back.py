"""What was logged is read back as the reports that it came from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch.utils.tensorboard import SummaryWriter

from lightning_tailindex import NamedEstimator
from lightning_tailindex.loggers import histograms, laws, scalars
from lightning_tailindex.records import Histogram, Measurement, Report
from lightning_tailindex.report import read_runs
from lightning_tailindex.report.compare import varied
from lightning_tailindex.report.hparams import read_hparams
from lightning_tailindex.report.names import LAWS, is_ours, meaning
from tests.figures.reports import training

from .trained import Net, event_file, train

Sweep = tuple[Path, Mapping[str, tuple[Report, ...]]]

NOT_LOGGED = {"num_coordinates", "group_size", "aggregated"}


def same(read: float, was: float) -> bool:
    return (math.isnan(read) and math.isnan(was)) or read == pytest.approx(was, rel=1e-6)  # files are float32


def test_every_number_of_every_report_is_read_back(sweep: Sweep) -> None:
    folder, reports = sweep
    runs, problems = read_runs([folder])
    assert problems == []
    assert [run.name for run in runs] == [str(folder / "narrow"), str(folder / "wide")]
    for run, was in zip(runs, reports.values(), strict=True):
        assert [report.step for report in run.reports] == [0, 10, 20]
        for read, true in zip(run.reports, was, strict=True):
            assert (read.minibatch_size, read.whole_model.group) == (true.minibatch_size, "whole_model")
            assert same(read.seconds, true.seconds)
            assert [m.group for m in read.measurements] == [m.group for m in true.measurements]
            for one, other in zip(read.measurements, true.measurements, strict=True):
                assert_same(one, other)


def assert_same(read: Measurement, was: Measurement) -> None:
    is_first = was.estimator == "grouped_mle"
    assert read.estimator == was.estimator
    names = {field.name for field in dataclasses.fields(Measurement)} - NOT_LOGGED
    for name in names if is_first else ("alpha", "low", "high", "gaussian_alpha", "num_draws"):
        one, other = getattr(read, name), getattr(was, name)
        if isinstance(other, Histogram):
            assert one.counts == other.counts
            assert one.edges == pytest.approx(other.edges)
            assert (one.total, one.total_squares) == (other.total, other.total_squares)
        else:
            assert one == other if isinstance(other, str) else same(one, other), name
    if is_first:
        assert same(read.signal_to_noise, was.signal_to_noise)
        averages, expected = ([dataclasses.astuple(each) for each in m.aggregated] for m in (read, was))
        assert len(averages) == 1
        assert all(same(x, y) for a, b in zip(averages, expected, strict=True) for x, y in zip(a, b, strict=True))


def test_the_comparison_of_reports_can_fail() -> None:
    was = training()[0].whole_model
    with pytest.raises(AssertionError):
        assert_same(dataclasses.replace(was, gain=2.0), was)


def test_hyperparameters_come_from_both_places(sweep: Sweep) -> None:
    (narrow, wide), _ = read_runs([sweep[0]])
    assert dict(narrow.hparams) == {"width": 4, "kind": "plain", "sizes": "[3, 3]"}
    (sweep[0] / "wide/hparams.yaml").rename(sweep[0] / "wide/kept")
    try:
        (_, by_plugin), problems = read_runs([sweep[0]])
    finally:
        (sweep[0] / "wide/kept").rename(sweep[0] / "wide/hparams.yaml")
    assert problems == []
    assert (by_plugin.hparams["width"], by_plugin.hparams["kind"]) == (wide.hparams["width"], wide.hparams["kind"])


def test_what_lightnings_cli_adds_is_no_hyperparameter(tmp_path: Path) -> None:
    (tmp_path / "hparams.yaml").write_text("_instantiator: lightning.pytorch.cli.instantiate_module\nwidth: 4\n")
    assert read_hparams(tmp_path) == ({"width": 4}, "")


def test_tags_are_the_loggers_own_read_backwards() -> None:
    report = training()[1]
    known = {tag: meaning(tag) for tag in (*scalars(report), *histograms(report))}
    follow = {tag for tag, meant in known.items() if meant is None}
    assert {tag.rpartition("/")[0] for tag in follow} == {"gradient_noise/signal_to_noise"}
    for tag, value in scalars(report).items():
        meant = known[tag]
        if meant is not None and meant.record in ("first", "further"):
            name = meant.estimator or "grouped_mle"
            (m,) = [m for m in report.measurements if (m.group, m.estimator) == (meant.group, name)]
            assert same(getattr(m, meant.field), value)
    assert meaning("loss") is None
    assert meaning("my_tail_index/fc1") is None
    assert is_ours(LAWS)
    assert not is_ours("loss")


def test_a_loggers_prefix_and_awkward_names_of_groups(tmp_path: Path) -> None:
    groups = {"first.weight": "a/b|c", "first.bias": "low/x", "second.weight": "tail_index/d", "second.bias": "日本"}
    was = train(tmp_path / "run", Net(), prefix="my-run", group_by=groups.get)
    (run,), problems = read_runs([tmp_path])
    assert problems == []
    for read, true in zip(run.reports, was, strict=True):
        assert {m.group for m in read.measurements} == {*groups.values(), "whole_model"}
        for one in read.measurements:
            (other,) = [m for m in true.measurements if m.group == one.group]
            assert same(one.alpha, other.alpha)
            assert one.law == other.law
            assert same(one.low, other.low)


def test_a_resumed_run_has_its_files_read_in_order(tmp_path: Path) -> None:
    first = train(tmp_path / "run", Net(), seed=1)
    event_file(tmp_path / "run").rename(tmp_path / "run/events.out.tfevents.0000000001.first")
    second = train(tmp_path / "run", Net(), seed=2)
    (run,), _ = read_runs([tmp_path, tmp_path / "run", tmp_path / "run/events.out.tfevents.0000000001.first"])
    alphas = [report.whole_model.alpha for report in run.reports]
    assert alphas == pytest.approx([report.whole_model.alpha for report in second])
    assert alphas != pytest.approx([report.whole_model.alpha for report in first])


def log(folder: Path, file: str, *reports: Report) -> None:
    """Logs reports as the monitor does, and its text of the setup at step 0, which every start writes again."""
    with SummaryWriter(str(folder), filename_suffix=f".{file}") as writer:
        writer.add_text("tail_index_setup", f"of {file}", 0)
        for report in reports:
            for tag, value in scalars(report).items():
                writer.add_scalar(tag, value, report.step)
            for tag, histogram in histograms(report).items():
                numbers = (histogram.total, histogram.total_squares, histogram.edges[1:], histogram.counts)
                low, high, count = histogram.edges[0], histogram.edges[-1], sum(histogram.counts)
                writer.add_histogram_raw(tag, low, high, count, *numbers, report.step)
            for tag, table in laws(report).items():
                writer.add_text(tag, table.markdown, report.step)
    (written,) = folder.glob(f"*.{file}")
    written.rename(folder / f"events.out.tfevents.{file}")


def at(step: int, alpha: float) -> Report:
    report = training()[0]
    measurements = [dataclasses.replace(m, alpha=alpha, law=f"law of {alpha}") for m in report.measurements]
    return dataclasses.replace(report, step=step, measurements=tuple(measurements))


@pytest.mark.parametrize(
    ("branches", "kept", "left_out"),
    [
        ([[0, 20, 40], [40, 60]], {0: 0, 20: 0, 40: 1, 60: 1}, ""),
        ([[0, 20], [0, 20]], {0: 1, 20: 1}, ""),
        ([[0, 20, 40], [20, 40, 60]], {0: 0, 20: 1, 40: 1, 60: 1}, ""),
        ([[0, 20, 40, 60], [20]], {0: 0, 20: 1}, "20 or earlier: the reports of step 40, 60"),
        ([[0, 30, 60], [40]], {0: 0, 30: 0, 40: 1}, "40 or earlier: the reports of step 60"),
        ([[0, 20, 40, 60], [40], [20]], {0: 0, 20: 2}, "20 or earlier: the reports of step 40, 60"),
    ],
)
def test_a_run_that_went_back_is_reported_without_its_abandoned_branch(
    branches: list[list[int]], kept: dict[int, int], left_out: str, tmp_path: Path
) -> None:
    for branch, steps in enumerate(branches):
        log(tmp_path, str(branch), *(at(step, 1 + branch / 4) for step in steps))
    (run,), problems = read_runs([tmp_path])
    assert {report.step: 4 * (report.whole_model.alpha - 1) for report in run.reports} == pytest.approx(kept)
    assert [report.whole_model.law for report in run.reports] == [f"law of {1 + each / 4}" for each in kept.values()]
    sentence = f"{tmp_path}: the run went back to step {left_out}, measured before, were left out"
    assert problems == ([sentence] if left_out else [])
    assert run.texts["tail_index_setup"] == f"of {len(branches) - 1}"


def test_other_tags_than_the_reports_own_tell_of_no_way_back(tmp_path: Path) -> None:
    log(tmp_path, "0", at(0, 1.0), at(20, 1.5))
    others = ("iterate_tail_index/whole_model", "iterate_tail_index_detail/cost_seconds/whole_model", "loss")
    with SummaryWriter(str(tmp_path), filename_suffix=".1") as writer:
        for tag in (*others, "tail_index/whole_model"):  # the last is what log_hyperparams(params, metrics) writes
            writer.add_scalar(tag, 1.0, 10)
            writer.add_scalar(tag, 1.0, 0)
    (run,), problems = read_runs([tmp_path])
    assert [report.step for report in run.reports] == [0, 10, 20]
    assert problems == []


def test_runs_that_were_measured_in_other_ways_differ(tmp_path: Path) -> None:
    for name, more in {"a": {}, "b": {"max_coordinates": None}, "c": {"noise_unit": "loader"}}.items():
        train(tmp_path / name, Net(), **more)  # type: ignore[arg-type]
    runs, _ = read_runs([tmp_path])
    differing = varied(runs)
    assert differing["headline (of the measurement)"] == ["grouped_mle", "sequential_mle", "grouped_mle"]
    assert differing["max_coordinates (of the measurement)"] == ["1024", "None", "1024"]
    assert differing["noise_unit (of the measurement)"] == ["step", "step", "loader"]
    assert "source (of the measurement)" not in differing


def test_the_note_of_the_reports_is_read_back(tmp_path: Path) -> None:
    was = {size: train(tmp_path / str(size), Net(), batch_size=size) for size in (4, 16)}
    for run, reports in zip(read_runs([tmp_path / "4", tmp_path / "16"])[0], was.values(), strict=True):
        assert [report.note for report in run.reports] == [report.note for report in reports]
    assert [reports[-1].note[:20] for reports in was.values()] == ["", "draws may share data"]


def test_an_estimator_with_arguments_has_its_name(tmp_path: Path) -> None:
    was = train(tmp_path / "run", Net(), estimators=NamedEstimator("group_sum", {"group_size": 4, "permutations": 2}))
    (run,), _ = read_runs([tmp_path])
    assert {report.whole_model.estimator for report in (*run.reports, *was)} == {
        "group_sum(group_size=4, permutations=2)"
    }


def test_what_was_not_logged_is_nan_or_empty(tmp_path: Path) -> None:
    with SummaryWriter(str(tmp_path)) as writer:
        for group, alpha in (("fc1", 1.2), ("whole_model", 1.4)):
            writer.add_scalar(f"tail_index/{group}", alpha, 5)
        writer.add_scalar("tail_index_aggregated/2_minibatches_gaussian/whole_model", 1.9, 5)
        for what in ("hill_low/whole_model", "low/fc2"):  # without a tail index: no estimate
            writer.add_scalar(f"tail_index_detail/{what}", 1.9, 5)
        writer.add_histogram("tail_index_per_coordinate/fc1", torch.ones(3), 5, bins=[0.0, 2.0])
    (run,), problems = read_runs([tmp_path])
    assert problems == []
    (report,) = run.reports
    assert [(m.group, m.law, m.note) for m in report.measurements] == [("fc1", "", ""), ("whole_model", "", "")]
    whole = report.whole_model
    assert whole.estimator == "the run's first estimator"
    assert whole.alpha == pytest.approx(1.4)
    assert math.isnan(whole.low)
    assert math.isnan(report.seconds)
    assert math.isnan(whole.aggregated[0].alpha)
    assert whole.aggregated[0].gaussian_alpha == pytest.approx(1.9)
    assert (whole.num_draws, report.minibatch_size, sum(whole.standardized_noise.counts)) == (0, 0, 0)
