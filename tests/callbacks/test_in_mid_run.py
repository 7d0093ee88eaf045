"""What happens to monitors in the middle of a run: a checkpoint is loaded, a monitor is added, one is never ready."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

import pytest
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import LearningRateFinder
from torch.utils.data import DataLoader

from lightning_tailindex import (
    FirstExitMonitor,
    IterateTailIndexMonitor,
    SharpnessMonitor,
    TailIndexMonitor,
    WeightSpectrumMonitor,
)
from lightning_tailindex.callbacks.monitor import Monitor

from .training_trace import OURS, KeptCSVLogger, NaiveMeasurement, NoisyData, Trace, train

pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists")


class FindsRate(LearningRateFinder):
    """Looks for a step size before the second epoch, as Lightning's documentation has it for fine-tuning."""

    def __init__(self, path: str) -> None:
        super().__init__(num_training_steps=4, update_attr=False)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        pass

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            self.lr_find(trainer, pl_module)


class GoesBack(Callback):
    """Goes back to the end of the first epoch once, after the second."""

    def __init__(self, path: str) -> None:
        self.path, self.is_back = f"{path}/first.ckpt", False

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 2 and not self.is_back:
            self.is_back = True
            trainer._checkpoint_connector.restore(self.path)


def monitors(**options: Any) -> list[Monitor[Any]]:
    return [
        TailIndexMonitor(4, num_minibatches=16, **options),
        SharpnessMonitor(5, num_minibatches=2, trace_samples=2, max_products=41, **options),
        WeightSpectrumMonitor(4, min_tail=2, **options),
        FirstExitMonitor(0.1, every_n_steps=3, **options),
        IterateTailIndexMonitor(window=16, burn_in=1, **options),
    ]


def run(path: Path, *callbacks: Callback, epochs: int = 5) -> Trace:
    loader: Callable[[], Any] = lambda: DataLoader(NoisyData(), 4, shuffle=True)  # noqa: E731
    return train(str(path), loader, callbacks, max_epochs=epochs)[0]


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """What three epochs leave if nobody measures."""
    return run(tmp_path_factory.mktemp("without"), epochs=3)


@pytest.mark.uncounted
@pytest.mark.parametrize("kind", [FindsRate, GoesBack])
def test_a_checkpoint_that_is_loaded(kind: Any, tmp_path: Path) -> None:
    without, watching = run(tmp_path / "a", kind(str(tmp_path / "a"))), monitors(on_error="raise")
    watched = run(tmp_path / "b", kind(str(tmp_path / "b")), *watching)
    assert without.differences(watched) == []
    for monitor in watching:
        steps = [report.step for report in monitor.reports]
        assert steps == sorted(set(steps))
        assert steps[-1] > 25
    assert all(math.isfinite(report.distance) for report in watching[3].reports)
    naive = run(tmp_path / "c", kind(str(tmp_path / "c")), NaiveMeasurement())
    assert "parameters" in without.differences(naive)


def test_reports_that_a_checkpoint_has_no_room_for_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_tailindex.callbacks.monitor._REPORTS_IN_CHECKPOINT", 2)
    watching = FirstExitMonitor(every_n_steps=2, on_error="raise")
    run(tmp_path, GoesBack(str(tmp_path)), watching, epochs=4)
    steps = [report.step for report in watching.reports]
    assert steps == list(range(0, steps[-1] + 1, 2))
    resumed = FirstExitMonitor(every_n_steps=2, on_error="raise")
    loader = lambda: DataLoader(NoisyData(), 4, shuffle=True)  # noqa: E731
    train(str(tmp_path), loader, [resumed], max_epochs=4, ckpt_path=f"{tmp_path}/first.ckpt")
    assert [report.step for report in resumed.reports][:4] == [6, 8, 10, 12]  # a new run has no more of them


class Adds(Callback):
    def __init__(self, monitor: Callback) -> None:
        self.monitor = monitor

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            trainer.callbacks.append(self.monitor)  # type: ignore[attr-defined]


@pytest.mark.parametrize("index", range(5))
def test_a_monitor_that_is_added(index: int, without: Trace, tmp_path: Path) -> None:
    monitor = monitors()[index]
    with pytest.warns(UserWarning, match="was not there when training started: give it to the Trainer") as said:
        added = run(tmp_path / "b", Adds(monitor), epochs=3)
    assert sum("training goes on" in str(each.message) for each in said) == 1
    assert without.differences(added) == []
    assert monitor.reports == []
    with pytest.raises(RuntimeError, match="was not there when training started"):
        run(tmp_path / "c", Adds(monitors(on_error="raise")[index]), epochs=3)


@final
class NeverReady(Monitor[Any]):
    def __init__(self, on_error: str = "warn") -> None:
        spectra = WeightSpectrumMonitor()
        super().__init__(spectra._kind, spectra.logged, {"on_error": on_error})

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._measure_if_due(trainer, pl_module)

    def _check(self, trainer: Trainer, module: LightningModule) -> None:
        pass

    def _begin(self, trainer: Trainer, module: LightningModule) -> tuple[int, str, str]:
        return 4, "nothing", "nothing"

    def _is_ready(self, trainer: Trainer) -> bool:
        raise OSError("broken on purpose")

    def _report(self, trainer: Trainer, module: LightningModule, step: int) -> Any:
        raise AssertionError("it was not ready")


def test_a_monitor_that_fails_to_tell_whether_it_is_ready(tmp_path: Path) -> None:
    without = run(tmp_path / "a", epochs=1)
    with pytest.warns(UserWarning, match="nothing can be measured at step 0, training goes on: OSError") as said:
        watched = run(tmp_path / "b", NeverReady(), epochs=1)
    assert sum("training goes on" in str(each.message) for each in said) == 1
    assert without.differences(watched) == []
    with pytest.raises(OSError, match="broken on purpose"):
        run(tmp_path / "c", NeverReady("raise"), epochs=1)


class Ends(Callback):
    """Ends a run by an error, once every monitor has measured."""

    def __init__(self, error: type[BaseException]) -> None:
        self.error = error

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 18:
            raise self.error("broken on purpose")


@pytest.fixture
def interrupts() -> Iterator[None]:
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)  # Lightning leaves it ignored


def steps_in(logger: KeptCSVLogger) -> list[Any]:
    """Steps of the reports in a log."""
    return [row["step"] for row in logger.all_rows if any(name.startswith(OURS) for name in row)]


@pytest.mark.uncounted
@pytest.mark.usefixtures("interrupts")
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
@pytest.mark.parametrize("index", range(5))
def test_a_monitor_of_a_run_that_an_error_ended_is_added(
    index: int, error: type[BaseException], without: Trace, tmp_path: Path
) -> None:
    monitor, logger = monitors()[index], KeptCSVLogger(str(tmp_path))
    loader = lambda: DataLoader(NoisyData(), 4, shuffle=True)  # noqa: E731
    with contextlib.suppress(OSError):
        train(str(tmp_path / "b"), loader, [monitor, Ends(error)], make_logger=lambda path: logger)
    before, rows = list(monitor.reports), len(logger.all_rows)
    assert before
    assert steps_in(logger) == [report.step for report in before]
    with pytest.warns(UserWarning, match="was not there when training started: give it to the Trainer"):
        added = run(tmp_path / "c", Adds(monitor), epochs=3)
    assert without.differences(added) == []
    assert monitor.reports == before
    assert len(logger.all_rows) == rows
    again = KeptCSVLogger(str(tmp_path))
    train(str(tmp_path / "d"), loader, [monitor], make_logger=lambda path: again)
    assert steps_in(again) == [report.step for report in monitor.reports]
    assert steps_in(again)[: len(before)] == [report.step for report in before]


@pytest.mark.parametrize("index", range(5))
def test_a_monitor_of_an_earlier_run_that_is_added(index: int, tmp_path: Path) -> None:
    monitor = monitors()[index]
    run(tmp_path / "a", monitor, epochs=2)
    before = list(monitor.reports)
    with pytest.warns(UserWarning, match="was not there when training started: give it to the Trainer"):
        run(tmp_path / "b", Adds(monitor), epochs=3)
    assert monitor.reports == before
