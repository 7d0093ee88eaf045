"""Data, modules, estimators and loggers that fail while they are measured, and never in training."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from lightning_tailindex.functional import grouped_mle

from .training_trace import KeptCSVLogger, Net, NoisyData

FAILS_AT = (4, 8)


class Armed(Callback):
    """Lets something fail while it is measured: one before the monitor arms it, one behind it disarms it."""

    def __init__(self, target: Callable[[Trainer], Any], is_armed: bool) -> None:
        self.target = target
        self.is_armed = is_armed

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.target(trainer).is_armed = self.is_armed and trainer.global_step in FAILS_AT

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.target(trainer).is_armed = False


class FragileData(NoisyData):
    """Fails at the fifth sample that is read while it is armed."""

    def __init__(self, error: type[BaseException] | None = OSError, size: int = 40) -> None:
        super().__init__(size)
        self.error = error
        self.is_armed = False
        self.extra = 0

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        self.extra += self.is_armed
        if self.extra == 5:
            if self.error is None:
                os._exit(1)
            raise self.error(f"sample {index} is broken on purpose")
        return super().__getitem__(index)


class FragileNet(Net):
    """Does something to the loss of the fourth minibatch of a measurement."""

    def __init__(self, spoil: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.spoil = spoil
        self.is_armed = False

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        loss = super().training_step(batch, batch_idx)
        return self.spoil(loss) if self.is_armed and batch_idx == 3 else loss


def raises(error: type[BaseException]) -> Callable[[Tensor], Tensor]:
    def spoil(loss: Tensor) -> Tensor:
        raise error(f"broken on purpose at a loss of {loss.item()}")

    return spoil


def fails_backward(loss: Tensor) -> Tensor:
    loss = loss * 1
    loss.register_hook(raises(ArithmeticError))
    return loss


class FailsToMove(Net):
    """Fails when a minibatch of a measurement is moved to the device."""

    def __init__(self) -> None:
        super().__init__()
        self.is_armed = False

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        if self.is_armed:
            raise TypeError("broken on purpose")
        return batch


class FragileEstimator:
    """Draws random numbers from where training draws them, and fails while it is armed."""

    def __init__(self, error: type[BaseException] = ZeroDivisionError) -> None:
        self.error = error
        self.is_armed = False
        self.calls = 0

    def __call__(self, x: Tensor, *, pooled: bool = False) -> Any:
        self.calls += 1
        torch.rand(3)
        if self.is_armed:
            raise self.error(f"call {self.calls} is broken on purpose")
        return grouped_mle(x, pooled=pooled)


class FragileLogger(KeptCSVLogger):
    error: type[BaseException] = OSError

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        if step in FAILS_AT and "tail_index/whole_model" in metrics:
            raise self.error(f"no space left for step {step}: broken on purpose")
        super().log_metrics(metrics, step)


class InterruptedLogger(FragileLogger):
    error = KeyboardInterrupt
