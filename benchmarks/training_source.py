"""What source="training" takes beside training: the time in the callback's hooks of a real training."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_tailindex import TailIndexMonitor

_QUIET: dict[str, Any] = {
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class _Stopwatch(Callback):
    """One of two around the monitor, in whose hooks the first subtracts the time and the second adds it."""

    def __init__(self, total: list[float], sign: int) -> None:
        self._total, self._sign = total, sign

    def on_train_batch_start(self, *_: object) -> None:
        """Where the monitor measures."""
        self._total.append(self._sign * time.perf_counter())

    def on_before_optimizer_step(self, *_: object) -> None:
        """Where the monitor keeps a gradient."""
        self._total.append(self._sign * time.perf_counter())


def seconds_beside_training(module: LightningModule, batches: Sequence[tuple[Tensor, Tensor]], draws: int) -> float:
    """Trains until there was one measurement of so many draws; seconds that the monitor took, estimates included."""
    total: list[float] = []
    monitor = TailIndexMonitor(
        every_n_steps=2 * draws, num_minibatches=draws, source="training", figures=None, on_error="raise"
    )
    callbacks = [_Stopwatch(total, -1), monitor, _Stopwatch(total, 1)]
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the data loader has no workers
        trainer = Trainer(max_steps=2 * draws + 1, accelerator="cpu", callbacks=callbacks, **_QUIET)
        trainer.fit(module, DataLoader(batches, batch_size=None))  # type: ignore[arg-type]
    assert len(monitor.reports) == 1, "there has to be one measurement"
    return sum(total)
