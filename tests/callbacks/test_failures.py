"""A measurement that fails, wherever it does, leaves training as if it had not been tried."""

from __future__ import annotations

import gc
import math
import multiprocessing
import re
import signal
import warnings
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from lightning_tailindex import TailIndexMonitor

from .fragile import (
    FAILS_AT,
    Armed,
    FailsToMove,
    FragileData,
    FragileEstimator,
    FragileLogger,
    FragileNet,
    InterruptedLogger,
    fails_backward,
    raises,
)
from .training_trace import NoisyData, Trace, train


@dataclass
class Stage:
    """Where a measurement fails, how, and what becomes of it."""

    error: type[Exception]
    options: dict[str, Any] = field(default_factory=dict)
    data: Callable[[], NoisyData] = NoisyData
    workers: int = 0
    estimator: Callable[[], Any] = lambda: "grouped_mle"
    is_dropped: bool = True
    says: str = "failed and was dropped, training goes on: .*broken on purpose"

    def run(self, path: Path, *callbacks: Callback) -> tuple[Trace, Trainer]:
        loader = lambda: DataLoader(self.data(), 6, shuffle=True, num_workers=self.workers)  # noqa: E731
        return train(str(path), loader, callbacks, **self.options)

    def watch(self, path: Path, on_error: Any) -> tuple[Trace, TailIndexMonitor]:
        estimator = self.estimator()
        monitor = TailIndexMonitor(2, num_minibatches=16, estimators=estimator, on_error=on_error)
        targets: list[Callable[[Trainer], Any]] = []
        if self.data is not NoisyData:
            targets.append(lambda trainer: trainer.train_dataloader.dataset)
        if "module" in self.options:
            targets.append(lambda trainer: trainer.lightning_module)
        if not isinstance(estimator, str):
            targets.append(lambda trainer: estimator)
        around = [[Armed(target, is_armed) for target in targets] for is_armed in (True, False)]
        watched, _ = self.run(path, *around[0], monitor, *around[1])
        return watched, monitor


@pytest.fixture(autouse=True)
def _dead_workers_are_noticed_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """After 0.2 seconds, not 5: Lightning takes the signal by which torch would notice at once away after a fit."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))


def in_step(spoil: Callable[[Tensor], Tensor]) -> dict[str, Any]:
    return {"module": lambda: FragileNet(spoil)}


STAGES = {
    "data": Stage(OSError, data=FragileData),
    "data in a worker": Stage(OSError, data=FragileData, workers=1, says="failed and was dropped.*OSError"),
    "a worker that dies": Stage(
        RuntimeError, data=lambda: FragileData(None), workers=1, says="failed and was dropped.*exited unexpectedly"
    ),
    "transfer": Stage(TypeError, {"module": FailsToMove}),
    "training_step": Stage(ValueError, in_step(raises(ValueError))),
    "training_step beside a worker": Stage(ValueError, in_step(raises(ValueError)), workers=1),
    "out of memory": Stage(torch.cuda.OutOfMemoryError, in_step(raises(torch.cuda.OutOfMemoryError))),
    "a loss without a gradient": Stage(
        ValueError, in_step(lambda loss: loss.detach()), says="must be a tensor with a gradient"
    ),
    "backward": Stage(ArithmeticError, in_step(fails_backward)),
    "estimator": Stage(ZeroDivisionError, estimator=FragileEstimator),
    "logger": Stage(
        OSError, {"make_logger": FragileLogger}, is_dropped=False, says="FragileLogger could not log the report of step"
    ),
}


@pytest.mark.uncounted
@pytest.mark.parametrize("name", STAGES)
def test_training_goes_on_bit_for_bit_after_one_warning(name: str, tmp_path: Path) -> None:
    stage = STAGES[name]
    without, _ = stage.run(tmp_path / "without")
    with pytest.warns(UserWarning, match="TailIndexMonitor") as caught:
        watched, monitor = stage.watch(tmp_path / "with", "warn")
    assert without.differences(watched) == []
    (said,) = [str(one.message) for one in caught if "TailIndexMonitor" in str(one.message)]  # of two that failed
    assert re.search(stage.says, said, re.DOTALL)
    dropped = FAILS_AT if stage.is_dropped else ()
    assert [report.step for report in monitor.reports] == [step for step in range(0, 21, 2) if step not in dropped]


@pytest.mark.parametrize("name", STAGES)
def test_a_failure_can_end_training(name: str, tmp_path: Path) -> None:
    with pytest.raises(STAGES[name].error):
        STAGES[name].watch(tmp_path, "raise")


def warns(loss: Tensor) -> Tensor:
    warnings.warn("broken on purpose", stacklevel=1)
    return loss


@pytest.mark.parametrize("spoil", [raises(ValueError), warns], ids=["an error", "a warning"])
def test_training_goes_on_where_warnings_are_errors(
    spoil: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(ValueError, in_step(spoil))
    without, _ = stage.run(tmp_path / "without")
    with caplog.at_level("INFO"):
        watched, monitor = stage.watch(tmp_path / "with", "warn")  # without pytest.warns warnings are errors here
    assert without.differences(watched) == []
    assert sum(bool(re.search(stage.says, message, re.DOTALL)) for message in caplog.messages) == 1
    assert {report.step for report in monitor.reports} == {*range(0, 21, 2)} - {*FAILS_AT}
    with pytest.raises((ValueError, UserWarning), match="broken on purpose"):
        stage.watch(tmp_path / "raise", "raise")


class CarelessMeasurement(Callback):
    """The control: it fails too and swallows the error, but on training's own module."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step in FAILS_AT:
            try:
                pl_module.training_step([part.clone() for part in batch], 0)
                raise ValueError("broken on purpose")
            except ValueError:
                pl_module.zero_grad()


@pytest.mark.uncounted
@pytest.mark.parametrize("name", STAGES)
def test_the_comparison_can_fail(name: str, tmp_path: Path) -> None:
    without, _ = STAGES[name].run(tmp_path / "without")
    careless, _ = STAGES[name].run(tmp_path / "careless", CarelessMeasurement())
    differences = without.differences(careless)
    assert {"parameters", "random", "attributes", "logged"} <= set(differences)


class InterruptAt(Callback):
    """Interrupts a training that nobody measures, at the same place."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == FAILS_AT[0]:
            raise KeyboardInterrupt


INTERRUPTED = {
    "data": Stage(OSError, data=lambda: FragileData(KeyboardInterrupt)),
    "training_step": Stage(OSError, in_step(raises(KeyboardInterrupt))),
    "estimator": Stage(OSError, estimator=lambda: FragileEstimator(KeyboardInterrupt)),
    "logger": Stage(OSError, {"make_logger": InterruptedLogger}),
}


@pytest.fixture
def interrupts() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored


@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("on_error", ["warn", "raise"])
@pytest.mark.parametrize("name", INTERRUPTED)
def test_an_interrupted_measurement_leaves_an_interrupted_training(name: str, on_error: str, tmp_path: Path) -> None:
    stage = INTERRUPTED[name]
    without, _ = stage.run(tmp_path / "without", InterruptAt())
    watched, _ = stage.watch(tmp_path / "with", on_error)
    assert watched.values["steps"] == (FAILS_AT[0], 0)
    assert without.differences(watched) == []
    later, _ = stage.run(tmp_path / "later")
    assert "parameters" in without.differences(later)


@pytest.mark.uncounted
@pytest.mark.parametrize("factor", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_is_data(factor: float, tmp_path: Path) -> None:
    stage = Stage(OSError, in_step(lambda loss: loss * factor))
    without, _ = stage.run(tmp_path / "without")
    watched, monitor = stage.watch(tmp_path / "with", "raise")
    assert without.differences(watched) == []
    for report in monitor.reports:
        is_spoilt = report.step in FAILS_AT
        assert all(math.isnan(each.alpha) is is_spoilt for each in report.measurements)
        assert all(each.note for each in report.measurements) or not is_spoilt


class Remembered(FragileNet):
    """Knows by weak references all modules that took a step in its name."""

    def __init__(self) -> None:
        super().__init__(raises(torch.cuda.OutOfMemoryError))
        self.steppers = Steppers()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.steppers.add(self)
        return super().training_step(batch, batch_idx)


class Steppers(weakref.WeakSet[Any]):
    """The same in all copies of a module."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Steppers:
        return self


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failed_measurement_frees_what_it_held(workers: int, tmp_path: Path) -> None:
    net = Remembered()
    stage = Stage(torch.cuda.OutOfMemoryError, {"module": lambda: net, "max_epochs": 1}, workers=workers)
    gc.collect()
    gc.disable()
    try:
        with pytest.warns(UserWarning, match="failed and was dropped.*OutOfMemoryError"):
            stage.watch(tmp_path, "warn")
        alive = list(net.steppers)
    finally:
        gc.enable()
    assert alive == [net]
    assert multiprocessing.active_children() == []
