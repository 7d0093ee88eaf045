"""Exits and jumps of weights whose way is known."""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_tailindex import FirstExitMonitor
from lightning_tailindex.loggers.setup import hyperparameters
from lightning_tailindex.records import FirstExit, FirstExitReport, from_plain, to_plain
from lightning_tailindex.weights import WeightPath
from tests.loggers.training import events_in, layout

from .test_cli import start, write
from .training_trace import NoisyData, train
from .weight_training import QUIET, Shrink

EXACT = 0.25
"""What a step moves the weights by, a number that floats hold exactly."""


class Walk(LightningModule):
    """Moves its only trainable weight by 0.25 each step along one axis, by 1 at step 7, and not its frozen one."""

    def __init__(self, dim: int = 4) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(dim))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return -self.w[0] * (4 if self.trainer.global_step == 7 else 1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=EXACT)


def fit(*callbacks: Callback, max_steps: int = 12, **options: Any) -> Trainer:
    ckpt_path = options.pop("ckpt_path", None)
    trainer = Trainer(**{**QUIET, "max_steps": max_steps, **options}, callbacks=list(callbacks))
    trainer.fit(Walk(), DataLoader(torch.zeros(200, 1)), ckpt_path=ckpt_path)
    return trainer


def monitor(radii: Any = (0.5, 0.6, 2.5, 9.0), **options: Any) -> FirstExitMonitor:
    return FirstExitMonitor(radii, **{"every_n_steps": 5, "window": 6, "on_error": "raise", **options})


def left(report: FirstExitReport) -> list[int | None]:
    return [each.step for each in report.exits]


def test_distances_and_exits_are_those_of_the_walk() -> None:
    watcher = monitor()
    trainer = fit(watcher)
    assert [report.step for report in watcher.reports] == [0, 5, 10, 12]
    # 0.25 a step, and 0.75 more from step 8 on; on a sphere is not beyond it
    assert [report.distance for report in watcher.reports] == [0, 1.25, 3.25, 3.75]
    assert [left(report) for report in watcher.reports] == [
        [None] * 4,
        [3, 3, None, None],
        [3, 3, 8, None],
        [3, 3, 8, None],
    ]
    assert trainer.callback_metrics["first_exit_distance"] == 3.75


def test_radii_are_as_precise_as_the_weights() -> None:
    paths = {dtype: WeightPath((0.1,), None) for dtype in (torch.float64, torch.complex128)}
    for dtype, path in paths.items():
        path.leave_from({"w": torch.zeros(1, dtype=dtype)}, 0)
        for step, weight in enumerate((0.1, math.nextafter(0.1, 1)), 1):  # both are float32's 0.1
            path.see({"w": torch.full((1,), weight, dtype=dtype)}, step)
        assert path.exits == {0.1: 2}


def test_jumps_are_told_from_steps() -> None:
    watcher = monitor(None)
    fit(watcher, max_steps=16)
    first, second, third, fourth, last = watcher.reports
    assert (first.num_steps, first.exits) == (0, ())
    assert math.isnan(first.largest_over_median)
    assert (second.num_steps, second.largest_over_median) == (5, 1)
    assert (third.num_steps, third.largest_step, third.median_step, third.largest_over_median) == (6, 1, EXACT, 4)
    assert fourth.step == 15
    assert (fourth.num_steps, fourth.largest_over_median, last.largest_over_median) == (6, 1, 1)


def test_without_a_window_no_step_is_followed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    watcher = monitor(window=None)
    trainer = fit(watcher)
    assert watcher.reports[-1].distance == 3.75
    assert math.isnan(watcher.reports[-1].largest_step)
    assert "first_exit_largest_step_over_median" not in trainer.callback_metrics
    fit(monitor())
    told = [record.message for record in caplog.records if record.message.startswith("FirstExitMonitor: measures")]
    assert "by a copy of them, 16 bytes" in told[0]
    assert "by 2 copies of them, 32 bytes" in told[1]


@pytest.mark.parametrize("accumulation", [1, 3])
def test_steps_are_optimizer_steps(accumulation: int) -> None:
    watcher = monitor(0.5)
    fit(watcher, accumulate_grad_batches=accumulation, max_steps=5)
    (exit,) = watcher.reports[-1].exits
    assert exit == FirstExit(0.5, 3)


def test_from_the_weights_at_a_step() -> None:
    watcher = monitor(reference=6)
    fit(watcher)
    assert watcher.reports[1].note == "no distance: the step of the reference is not reached yet"
    assert [report.distance for report in watcher.reports[2:]] == [1.75, 2.25]
    assert math.isnan(watcher.reports[0].distance)
    assert left(watcher.reports[-1]) == [8, 8, None, None]


def test_larger_balls_are_left_later() -> None:
    watcher = monitor([0.3 * 1.4**i for i in range(8)])
    fit(watcher, max_steps=60)
    steps = left(watcher.reports[-1])
    assert steps == sorted(steps, key=lambda step: math.inf if step is None else step)
    distance = {step: EXACT * step + 0.75 * (step > 7) for step in range(61)}
    for each in watcher.reports[-1].exits:
        assert each.step == min(step for step in distance if distance[step] > each.radius)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sequence[FirstExitReport]]:
    folder = tmp_path_factory.mktemp("saved")
    watcher = monitor()
    saving = ModelCheckpoint(folder, "{step}", every_n_train_steps=4, save_top_k=-1)
    fit(watcher, saving, enable_checkpointing=True)
    return folder, watcher.reports


def test_from_the_weights_of_a_checkpoint(saved: tuple[Path, Any], tmp_path: Path) -> None:
    watcher = monitor(reference=str(saved[0] / "step=4.ckpt"))
    fit(watcher)
    assert [report.distance for report in watcher.reports] == [1, 0.25, 2.25, 2.75]
    assert left(watcher.reports[-1]) == [0, 0, 12, None]
    torch.save({"w": torch.zeros(5)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match=r"reference must hold weights of the module's names .* lacks 'w'"):
        fit(monitor(reference=str(tmp_path / "other.pt")))


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended", "ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`", "ignore:The number of training batches")
@pytest.mark.parametrize("step", [4, 8])
def test_a_resumed_run_goes_on_from_its_reference(saved: tuple[Path, Any], step: int) -> None:
    folder, whole = saved
    resumed = monitor()
    fit(resumed, ckpt_path=folder / f"step={step}.ckpt")
    assert [(r.step, r.distance, r.exits) for r in resumed.reports] == [(r.step, r.distance, r.exits) for r in whole]
    # the sizes of the steps before are not in the checkpoint
    assert sum(r.num_steps for r in resumed.reports) < sum(r.num_steps for r in whole)
    assert (
        "w" in torch.load(folder / f"step={step}.ckpt", weights_only=True)["callbacks"]["FirstExitMonitor"]["reference"]
    )
    report = replace(whole[-1], note="")
    assert from_plain(FirstExitReport, to_plain(report)) == report


@pytest.mark.filterwarnings("ignore:You're resuming from a checkpoint that ended", "ignore:The dirpath has changed")
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`", "ignore:The number of training batches")
def test_a_radius_that_is_added_may_have_been_left_before(saved: tuple[Path, Any]) -> None:
    words = "radii that were not followed before the run was resumed may have been left earlier: 0.3"
    for radii, is_told in (((0.3, 0.5), True), ((0.5, 2.5), False)):
        resumed = monitor(radii)
        fit(resumed, ckpt_path=saved[0] / "step=8.ckpt")
        assert (words in resumed.reports[-1].note) is is_told


def test_a_second_fit_starts_anew() -> None:
    watcher = monitor()
    fit(watcher)
    fit(watcher, max_steps=5)
    assert [report.distance for report in watcher.reports] == [0, 1.25]
    assert left(watcher.reports[-1]) == [3, 3, None, None]


def test_a_monitor_that_has_measured_is_pickled() -> None:
    watcher = monitor()
    fit(watcher)
    assert repr(pickle.loads(pickle.dumps(watcher)).reports) == repr(watcher.reports)  # NaN is not equal to itself


def test_training_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    def loader() -> DataLoader[Any]:
        return DataLoader(NoisyData(), batch_size=6, shuffle=True)

    without, _ = train(str(tmp_path / "without"), loader)
    watcher = monitor()
    watched, _ = train(str(tmp_path / "with"), loader, [watcher])
    control, _ = train(str(tmp_path / "control"), loader, [Shrink()])
    assert watcher.reports[-1].distance > 0.1
    assert without.differences(watched) == []
    assert "parameters" in without.differences(control)


class Ruined(Walk):
    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) * (math.nan if self.trainer.global_step == 3 else 1)


def test_weights_that_are_not_finite_give_a_note() -> None:
    watcher = monitor()
    trainer = Trainer(**QUIET, max_steps=6, callbacks=[watcher])
    trainer.fit(Ruined(), DataLoader(torch.zeros(20, 1)))
    assert watcher.reports[-1].note == "the distance is not finite: weights or their squares are NaN or infinite"
    assert left(watcher.reports[-1]) == [3, 3, 4, 4]
    assert watcher.reports[-1].num_steps == 6
    assert all(math.isnan(size) for size in (watcher.reports[-1].largest_step, watcher.reports[-1].median_step))


class Rename(Callback):
    """Renames a weight, as pruning does."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 3:
            pl_module.register_parameter("w_orig", pl_module._parameters.pop("w"))
            vars(pl_module)["w"] = pl_module.w_orig


def test_weights_that_are_renamed_are_told_of() -> None:
    with pytest.warns(UserWarning, match="no longer in the module, or renamed, or of another shape: 'w'"):
        fit(monitor(on_error="warn"), Rename(), max_steps=6)


class RenameForAWhile(Rename):
    """Takes the first name back in the middle of the run, or at its end."""

    def __init__(self, last: int) -> None:
        self.last = last

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_start(trainer, pl_module, batch, batch_idx)
        if batch_idx == self.last:
            self.take_back(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if "w_orig" in dict(pl_module.named_parameters()):
            self.take_back(pl_module)

    def take_back(self, module: LightningModule) -> None:
        del vars(module)["w"]
        module.register_parameter("w", module._parameters.pop("w_orig"))


@pytest.mark.parametrize(("last", "unseen"), [(7, "3 to 6"), (99, "3 to 15")])
def test_no_distance_is_of_a_step_that_was_not_seen(last: int, unseen: str) -> None:
    watcher = monitor(on_error="warn")
    with pytest.warns(UserWarning, match="step 3 could not be looked at"):
        fit(RenameForAWhile(last), watcher, max_steps=16)
    note = f"the weights of steps {unseen} were not seen: exits may have come earlier, or be missing"
    later = watcher.reports[1:]
    # a step of 0.25 each, and 0.75 more at step 8
    assert [(r.step, r.distance) for r in later] == [(s, s / 4 + 0.75) for s in (10, 15, 16) if last < s or s == 16]
    assert {report.note for report in later} == {note}
    assert left(later[0]) == ([7, 7, 8, None] if last == 7 else [16] * 3 + [None])
    assert [report.num_steps for report in later] == ([3, 6, 6] if last == 7 else [0])


def test_a_resumed_run_still_says_which_steps_were_not_seen(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="step 3 could not be looked at"):
        trainer = fit(RenameForAWhile(5), monitor(on_error="warn"), max_steps=9, limit_train_batches=9)
    trainer.save_checkpoint(tmp_path / "nine.ckpt")
    watcher = monitor()
    fit(watcher, ckpt_path=str(tmp_path / "nine.ckpt"), max_steps=12, limit_train_batches=9)
    what = "the weights of steps 3 to 4 were not seen: exits may have come earlier, or be missing"
    assert (watcher.reports[-1].distance, watcher.reports[-1].note) == (3.75, what)


class Grow(Callback):
    """Gives a weight another shape, as a layer does that is made anew."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == 3:
            pl_module.w = nn.Parameter(torch.zeros(9))
            trainer.strategy.setup_optimizers(trainer)


def test_weights_of_another_shape_are_told_of_and_have_no_distance() -> None:
    watcher = monitor(on_error="warn")
    with pytest.warns(UserWarning, match="no longer in the module, or renamed, or of another shape: 'w'"):
        fit(watcher, Grow(), max_steps=12)
    assert [report.step for report in watcher.reports] == [0]


class EveryFourth(Walk):
    """Steps once in four batches."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch: Tensor, batch_idx: int) -> None:  # type: ignore[override]
        optimizer: Any = self.optimizers()
        self.manual_backward(-self.w[0] / 4)
        if batch_idx % 4 == 3:
            optimizer.step()
            optimizer.zero_grad()


class MovesByHand(EveryFourth):
    """Has no use for its optimizer."""

    def training_step(self, batch: Tensor, batch_idx: int) -> None:  # type: ignore[override]
        with torch.no_grad():
            self.w[0] += EXACT


@pytest.mark.parametrize("module", [EveryFourth, MovesByHand])
def test_batches_without_a_step_are_none(module: type[Walk]) -> None:
    watcher = monitor(every_n_steps=32, window=6)
    trainer = Trainer(**{**QUIET, "max_epochs": 1, "limit_train_batches": 40}, callbacks=[watcher])
    trainer.fit(module(), DataLoader(torch.zeros(200, 1)))
    assert watcher.reports[-1].median_step == EXACT
    assert watcher.reports[-1].distance == (40 if module is MovesByHand else 10) * EXACT


def test_what_stands_in_a_tensorboard_file(tmp_path: Path) -> None:
    fit(monitor(), logger=TensorBoardLogger(tmp_path, "", ""))
    events = events_in(tmp_path)
    assert [event.value for event in events.Scalars("first_exit/distance")] == [0, 1.25, 3.25, 3.75]
    assert [(event.step, event.value) for event in events.Scalars("first_exit/step/2.5")] == [(10, 8), (12, 8)]
    assert "first_exit/step/9" not in events.Tags()["scalars"]
    jumps = [event.value for event in events.Scalars("first_exit/largest_step_over_median")]
    assert jumps == pytest.approx([math.nan, 1, 4, 4], nan_ok=True)
    assert len(layout(events)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"radii": 0.0}, "radii must be a number above 0, got 0.0"),
        ({"radii": [1.0, -2.0]}, "radii must be a number above 0, got -2.0"),
        ({"radii": math.inf}, "radii must be a number above 0, got inf"),
        ({"reference": "nowhere.ckpt"}, "reference must be 'start', an optimizer step of at least 0, or the path of a"),
        ({"reference": "nowhere.ckpt"}, "got 'nowhere.ckpt': there is no such file"),
        ({"reference": -1}, "reference must be 'start', an optimizer step of at least 0, .* got -1"),
        ({"every_n_steps": 0}, "every_n_steps must be an integer of at least 1, got 0"),
        ({"window": 1}, "window must be None or an integer of at least 2, got 1"),
        ({"on_error": "ignore"}, "on_error must be 'warn' or 'raise', got 'ignore'"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FirstExitMonitor(**arguments)


@pytest.mark.parametrize("radii", [np.geomspace(0.5, 2, 3), torch.tensor([2.0, 1.0, 0.5]), (1, np.float32(2), 0.5)])
def test_radii_are_any_numbers(radii: Any) -> None:
    found = FirstExitMonitor(radii).radii
    assert found == pytest.approx((0.5, 1, 2))
    assert {type(radius) for radius in found} == {float}
    assert FirstExitMonitor(np.float64(2.5)).radii == (2.5,)
    with pytest.raises(ValueError, match=r"radii must be a number above 0, got -1\.0"):
        FirstExitMonitor(np.array([1.0, -1.0]))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("lightning", ["lightning.pytorch", "pytorch_lightning"])
def test_yaml(lightning: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(lightning)
    monkeypatch.setattr("sys.argv", ["train.py"])
    init_args = "{radii: [2.0, 0.5], reference: 7, window: null}"
    cli = start(lightning, write(tmp_path, init_args, "FirstExitMonitor"))
    (watcher,) = [each for each in cli.trainer.callbacks if isinstance(each, FirstExitMonitor)]
    assert (watcher.radii, watcher.reference, watcher.window) == ((0.5, 2.0), 7, None)


def test_hyperparameters_name_the_file_and_the_numbers(tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").touch()
    watcher = monitor([np.float32(0.5), np.float64(1)], reference=tmp_path / "best.ckpt")
    told = hyperparameters(watcher._arguments)
    assert told["reference"] == str(tmp_path / "best.ckpt")
    assert told["radii"] == "0.5, 1.0"
