"""The bar of a measurement: below Lightning's own where these are, nowhere else."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar
from torch.utils.data import DataLoader

from lightning_tailindex import TailIndexMonitor
from lightning_tailindex.trainer import progress

from .test_kinds_of_loaders import Data
from .training_trace import Net, Trace, train

TITLE = "Gradient noise"


class Validated(Net):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.head(self.body(batch[0]))


class WithValidation(Data):
    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader(self.train_dataloader().dataset, batch_size=6)


@pytest.fixture(autouse=True)
def no_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_DELAY", 0.0)


def run(path: Path, *callbacks: Callback, measure: bool = True, **options: Any) -> Trace:
    monitor = TailIndexMonitor(4, num_minibatches=16, full_gradient_batches=None, on_error="raise")
    own = [monitor] if measure else []
    trace = train(str(path), WithValidation, [*callbacks, *own], **{"max_epochs": 2, "module": Validated, **options})[0]
    assert len(monitor.reports) > 1 or not measure
    return trace


def test_it_stands_below_the_bar_of_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(tmp_path, TQDMProgressBar(), enable_progress_bar=True)
    printed = "".join(capsys.readouterr())
    assert f"{TITLE}:" in printed
    assert " 0/16 [" in printed
    assert "Epoch 1" in printed
    run(tmp_path / "without", TQDMProgressBar(), measure=False, enable_progress_bar=True)
    printed = "".join(capsys.readouterr())
    assert TITLE not in printed
    assert "Epoch 1" in printed


def test_what_is_short_shows_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    run(tmp_path, TQDMProgressBar(), enable_progress_bar=True)
    assert TITLE not in "".join(capsys.readouterr())


@pytest.mark.parametrize("options", [{}, {"enable_progress_bar": True, "callbacks": 0}])
def test_nothing_is_printed_where_bars_are_off(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any]
) -> None:
    callbacks = [TQDMProgressBar(refresh_rate=0)] if "callbacks" in options else []
    run(tmp_path, *callbacks, enable_progress_bar=bool(callbacks))
    assert TITLE not in "".join(capsys.readouterr())


def test_it_is_a_task_of_the_rich_bar_and_lightning_still_finds_its_own(tmp_path: Path) -> None:
    screen = io.StringIO()
    bar = RichProgressBar(console_kwargs={"file": screen, "force_terminal": True, "width": 100})
    run(tmp_path, bar, enable_progress_bar=True)
    assert TITLE in screen.getvalue()
    assert "Epoch 1" in screen.getvalue()
    assert bar.progress is not None
    descriptions = [task.description for task in bar.progress.tasks]
    assert TITLE in descriptions
    assert any("Validation" in description for description in descriptions)
    assert not any(task.visible for task in bar.progress.tasks if task.description == TITLE)
    quiet = io.StringIO()
    off = RichProgressBar(refresh_rate=0, console_kwargs={"file": quiet, "force_terminal": True})
    run(tmp_path / "off", off, enable_progress_bar=True)
    assert TITLE not in quiet.getvalue()


def test_training_is_the_same_bit_for_bit(tmp_path: Path) -> None:
    without = run(tmp_path / "without", TQDMProgressBar(), measure=False, enable_progress_bar=True)
    watched = run(tmp_path / "with", TQDMProgressBar(), enable_progress_bar=True)
    assert without.differences(watched) == []
    other = run(tmp_path / "other", TQDMProgressBar(), enable_progress_bar=True, max_epochs=1)
    assert "parameters" in without.differences(other)  # the comparison can fail
