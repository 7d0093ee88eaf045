"""A run that stops and goes on from its checkpoint reports what a run reports that never stopped."""

from __future__ import annotations

import dataclasses
import math
import pickle
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint, OnExceptionCheckpoint
from packaging.version import Version
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_tailindex import FirstExitMonitor, IterateTailIndexMonitor, TailIndexMonitor
from lightning_tailindex.records import Report, from_plain, to_plain

from .resuming import END, Crash, EpochNet, Net, compared, run, samples
from .training_trace import Trace

KEY = "TailIndexMonitor"

pytestmark = [
    pytest.mark.uncounted,
    pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended"),
    pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create the checkpoint"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:Checkpoint directory .* exists"),
    # what a callback that saves crashes makes Lightning say of a run that starts
    pytest.mark.filterwarnings("ignore:.*.fit.ckpt_path=None.. was called", "ignore:.*.fit.ckpt_path=.last.. is set"),
]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[type[Net], tuple[TailIndexMonitor, Net]]:
    runs = {module: run(tmp_path_factory.mktemp("whole"), module=module) for module in (Net, EpochNet)}
    return {module: (monitor, net) for module, (monitor, _, net) in runs.items()}


@pytest.mark.parametrize(
    ("module", "stop"),
    [(Net, 1), (Net, 10), (Net, 24), (Net, 25), (Net, 40), (EpochNet, 20), (EpochNet, 40)],
)
def test_reports_are_those_of_a_run_that_never_stopped(
    whole: dict[type[Net], tuple[TailIndexMonitor, Net]], module: type[Net], stop: int, tmp_path: Path
) -> None:
    stopped, _, _ = run(tmp_path, stop, module=module)
    resumed, before, net = run(tmp_path, ckpt_path=tmp_path / f"step={stop}.ckpt", module=module)
    monitor, unstopped = whole[module]
    assert [report.step for report in resumed.reports] == list(range(0, END, 4))
    is_old = Version(lightning.__version__) < Version("2.5")
    if is_old and module is EpochNet and Trace(dict(unstopped.state_dict())).differences(Trace(dict(net.state_dict()))):
        pytest.skip("this version of Lightning does not train on as it would have after stopping at an epoch's end")
    assert compared(monitor.reports).differences(compared(resumed.reports)) == []
    assert 0 <= before.reports[-1].step < stop
    assert compared(stopped.reports).differences(compared(before.reports)) == []
    assert Trace(dict(unstopped.state_dict())).differences(Trace(dict(net.state_dict()))) == []


@pytest.mark.parametrize("stop", [10, 24])
def test_a_run_that_crashed_goes_on_as_if_it_had_not(
    whole: dict[type[Net], tuple[TailIndexMonitor, Net]], stop: int, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="broken on purpose"):
        run(tmp_path, others=[Crash(stop), OnExceptionCheckpoint(tmp_path, "crash")])
    resumed, before, _ = run(tmp_path, ckpt_path=tmp_path / "crash.ckpt")
    assert before.reports[-1].step == stop // 4 * 4
    assert [report.step for report in resumed.reports] == list(range(0, END, 4))
    assert compared(whole[Net][0].reports).differences(compared(resumed.reports)) == []


def test_the_comparison_can_fail(whole: dict[type[Net], tuple[TailIndexMonitor, Net]], tmp_path: Path) -> None:
    monitor, _ = whole[Net]
    other, _, _ = run(tmp_path, seed=1)
    steps = sorted(map(str, range(0, END, 4)))
    assert compared(monitor.reports).differences(compared(other.reports)) == steps
    (first, second, *_) = monitor.reports
    moved = dataclasses.replace(second, step=first.step)
    assert compared([first]).differences(compared([moved])) == ["0"]


def test_what_callbacks_monitor_is_there_before_the_first_measurement(tmp_path: Path) -> None:
    stopped, _, _ = run(tmp_path, 10)
    _, before, _ = run(tmp_path, ckpt_path=tmp_path / "step=10.ckpt")
    whole = stopped.reports[-1].whole_model
    assert before.metrics["tail_index"] == pytest.approx(whole.alpha)
    assert before.metrics["tail_index_gaussian"] == pytest.approx(whole.gaussian_alpha)


def test_a_measurement_that_waits_for_a_stream_goes_on_waiting(tmp_path: Path) -> None:
    never, _, _ = run(tmp_path / "whole", is_stream=True, every_n_steps=30)
    assert [report.step for report in never.reports] == [16, 30]
    run(tmp_path, 8, is_stream=True, every_n_steps=30)
    resumed, _, _ = run(tmp_path, ckpt_path=tmp_path / "step=8.ckpt", is_stream=True, every_n_steps=30)
    assert [report.step for report in resumed.reports] == [24, 30]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long")
    run(path, 106, every_n_steps=1, max_coordinates=16)
    return path / "step=106.ckpt"


def test_a_checkpoint_loads_without_trust_and_holds_plain_types(checkpoint: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)["callbacks"][KEY]

    def types(value: Any) -> set[type]:
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return {type(value)}.union(*map(types, parts))

    assert types(state) == {dict, list, str, float, int, bool}
    assert any(math.isnan(each["alpha"]) for each in state["reports"][-1]["measurements"])


def test_a_checkpoint_keeps_the_last_100_reports(checkpoint: Path, tmp_path: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)["callbacks"][KEY]
    assert [report["step"] for report in state["reports"]] == list(range(6, 106))
    size = len(pickle.dumps(state, protocol=2))
    measurements = sum(len(report["measurements"]) for report in state["reports"])
    assert measurements == 400  # of three layers and the whole model
    assert size / measurements < 2300, f"{size} bytes for {measurements} measurements"
    resumed, _, _ = run(tmp_path, 107, checkpoint, every_n_steps=1, max_coordinates=16)
    assert [report.step for report in resumed.reports] == list(range(6, 107))


class NetOfEveryStage(EpochNet):
    """Has a step for every stage."""

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.loss(*batch)

    test_step = predict_step = validation_step


@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_a_checkpoint_that_is_tested_leaves_the_reports_of_the_fit(stage: str, tmp_path: Path) -> None:
    monitors: list[Any] = [
        TailIndexMonitor(4, num_minibatches=16),
        FirstExitMonitor(radii=0.01, every_n_steps=4),
        IterateTailIndexMonitor(window=16, burn_in=1),
    ]
    early = ModelCheckpoint(tmp_path, "early", every_n_train_steps=5, monitor="step", mode="min")
    bars: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    options = {"accelerator": "cpu", "logger": False, "default_root_dir": tmp_path, **bars}
    trainer, data = Trainer(max_steps=20, callbacks=[*monitors, early], **options), DataLoader(samples(), 4)
    trainer.fit(NetOfEveryStage(), data, data)
    before = [(list(each.reports), repr(each.state_dict())) for each in monitors]
    assert all(reports for reports, _ in before)
    getattr(trainer, stage)(NetOfEveryStage(), data, ckpt_path=tmp_path / "early.ckpt")
    assert [(list(each.reports), repr(each.state_dict())) for each in monitors] == before
    Trainer(max_steps=9, callbacks=monitors, **options).fit(
        NetOfEveryStage(), data, data, ckpt_path=tmp_path / "early.ckpt"
    )
    assert [report.step for report in monitors[0].reports] == [0, 4, 8]  # a fit that goes on from it takes its reports


def edited(checkpoint: Path, path: Path, change: Any) -> Path:
    content = torch.load(checkpoint, weights_only=True)
    change(content["callbacks"][KEY])
    torch.save(content, path)
    return path


def test_a_checkpoint_of_an_older_version_loads(checkpoint: Path, tmp_path: Path) -> None:
    def change(state: dict[str, Any]) -> None:
        del state["reports"], state["is_waiting"]

    resumed, before, _ = run(tmp_path, 116, edited(checkpoint, tmp_path / "old.ckpt", change))
    assert before.reports == []
    assert "tail_index" in before.metrics
    assert [report.step for report in resumed.reports] == [108, 112]


def test_reports_that_cannot_be_read_do_not_keep_a_run_from_resuming(checkpoint: Path, tmp_path: Path) -> None:
    def change(state: dict[str, Any]) -> None:
        del state["reports"][0]["measurements"][0]["alpha"]

    other = edited(checkpoint, tmp_path / "other.ckpt", change)
    with pytest.warns(UserWarning, match=r"could not be read.*a Measurement needs its fields \['alpha'\]"):
        resumed, _, _ = run(tmp_path, 116, other, on_error="warn")
    assert [report.step for report in resumed.reports] == [108, 112]


def test_a_report_comes_back_from_plain_types_as_it_was(
    whole: dict[type[Net], tuple[TailIndexMonitor, Net]],
) -> None:
    report = whole[Net][0].reports[0]
    again = from_plain(Report, to_plain(report))
    assert repr(again) == repr(report)  # NaN is not equal to itself
    assert again.measurements[0] == report.measurements[0]
    assert isinstance(hash(again), int)  # what was frozen is
    assert from_plain(Report, {**to_plain(report), "written by a later version": 1}).step == report.step
