"""What users are told in lines of the log: that they can see them, that they are true, and that they come once."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.rank_zero import rank_zero_info
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import GradientAccumulationScheduler, StochasticWeightAveraging
from rich.console import Console
from rich.live import Live
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_tailindex import IterateTailIndexMonitor, TailIndexMonitor
from lightning_tailindex.trainer import tell
from tests.loggers.training import TwoLayers

from .weight_training import QUIET


@contextmanager
def live_bar(stream: str) -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """Lends what rich shows, a live bar in it, and the stream of the log from before, which the bar overwrites."""
    shown, before, log = io.StringIO(), io.StringIO(), logging.getLogger("lightning.pytorch")
    own = getattr(sys, stream)
    setattr(sys, stream, before)
    handler = logging.StreamHandler(before)
    log.addHandler(handler)
    try:
        with Live("bar", console=Console(file=shown, force_terminal=True, width=200), auto_refresh=False):
            yield shown, before
    finally:
        setattr(sys, stream, own)
        log.removeHandler(handler)


@pytest.mark.parametrize("stream", ["stderr", "stdout"])
def test_lines_stand_above_live_bars(stream: str) -> None:
    with live_bar(stream) as (shown, before):
        tell("a note")
        assert "a note\n" in shown.getvalue()
        assert before.getvalue() == ""
        rank_zero_info("another")  # the control: what the bar overwrites
        assert "another" not in shown.getvalue()
        assert before.getvalue() == "another\n"


def test_lines_say_where_they_come_from(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        tell("a note")
    (record,) = caplog.records
    assert record.filename == "test_lines.py"


class Skipping(TwoLayers):
    """Skips a batch now and then, so that each measurement has another number of draws."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) if batch[0][0, 0] < 0.7 else None  # type: ignore[return-value]


def loader(number: int = 60) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(4 * number, 4, generator=generator), torch.randint(2, (4 * number,), generator=generator)
    return DataLoader(TensorDataset(x, y), 4, shuffle=True, generator=generator)


@pytest.mark.filterwarnings("ignore:`training_step` returned `None`")
def test_a_note_that_differs_in_numbers_only_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watcher = TailIndexMonitor(10, num_minibatches=64, full_gradient_batches=None)
    with caplog.at_level("INFO"):
        Trainer(**QUIET, max_epochs=2, callbacks=watcher, default_root_dir=tmp_path).fit(Skipping(), loader())
    assert len({report.note for report in watcher.reports}) > 3
    assert sum("draws instead of 64" in line for line in caplog.messages) == 1


class Alternating(TwoLayers):
    """Trains other parameters at every tenth step."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.second.requires_grad_(batch_idx % 10 > 0)
        return super().training_step(batch, batch_idx)


# nothing is due before step 64; from then on the second module never does 32 steps in a row alike
@pytest.mark.parametrize(("net", "epochs", "waits"), [(TwoLayers, 3, False), (Alternating, 5, True)])
def test_a_second_fit_that_measures_nothing_says_so(
    net: type[LightningModule], epochs: int, waits: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = TailIndexMonitor(num_minibatches=16, source="training")
    trainer = Trainer(**QUIET, max_epochs=2, callbacks=watcher, default_root_dir=tmp_path)
    trainer.fit(TwoLayers(), loader(20))
    assert [report.step for report in watcher.reports] == [32]
    trainer.fit_loop.max_epochs = epochs
    with caplog.at_level("INFO"):
        trainer.fit(net(), loader(20))
    assert len(watcher.reports) == 1
    assert "TailIndexMonitor: nothing was measured in this run" in caplog.text
    assert ("training did not show it 32 steps in a row" in caplog.text) == waits


class Normalized(TwoLayers):
    """Has running averages, for which the averaging of weights makes an epoch of its own, without steps."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(self.first, nn.BatchNorm1d(6))  # type: ignore[assignment]


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("net", [TwoLayers, Normalized])
def test_the_end_that_is_announced_is_that_of_steps(
    net: type[LightningModule], accumulation: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks = [StochasticWeightAveraging(0.01, swa_epoch_start=1), IterateTailIndexMonitor(window=16, burn_in=0)]
    options = {"accumulate_grad_batches": accumulation, "default_root_dir": tmp_path, "max_epochs": 4}
    with caplog.at_level("INFO"):
        Trainer(**QUIET, callbacks=callbacks, **options).fit(net(), loader(16))
    assert f"to the end at step {64 // accumulation})" in caplog.text


@pytest.mark.parametrize(
    ("options", "more", "end"),
    [
        ({"max_steps": 1000}, [], 64),
        ({"max_steps": 60}, [], 60),
        ({}, [GradientAccumulationScheduler({0: 1, 2: 4})], 40),
    ],
)
def test_it_is_so_whatever_else_bounds_training(
    options: dict[str, Any], more: list[Callback], end: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    watcher = IterateTailIndexMonitor(window=16, burn_in=0)
    callbacks = [StochasticWeightAveraging(0.01, swa_epoch_start=1), *more, watcher]
    with caplog.at_level("INFO"):
        Trainer(**QUIET, **options, callbacks=callbacks, max_epochs=4, default_root_dir=tmp_path).fit(
            Normalized(), loader(16)
        )
    assert f"to the end at step {end})" in caplog.text


class OwnAveraging(Callback):
    """Has the name of Lightning's callback and nothing else of it."""


OwnAveraging.__name__ = "StochasticWeightAveraging"


def test_a_callback_of_that_name_is_let_be(tmp_path: Path) -> None:
    watcher = IterateTailIndexMonitor(window=16, burn_in=0)
    Trainer(**QUIET, callbacks=[OwnAveraging(), watcher], max_epochs=1, default_root_dir=tmp_path).fit(
        Normalized(), loader(16)
    )
    assert len(watcher.reports) == 1
