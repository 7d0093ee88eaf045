"""Trainings with and without the monitors, on the other device and on the host."""

from __future__ import annotations

from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.accelerators import Accelerator, CPUAccelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_tailindex import (
    FirstExitMonitor,
    IterateTailIndexMonitor,
    SharpnessMonitor,
    TailIndexMonitor,
    WeightSpectrumMonitor,
)

from . import other_device
from .functional.samples import generator


class Elsewhere(Accelerator):
    """Lightning's view of the device."""

    def setup_device(self, device: torch.device) -> None:
        pass

    def teardown(self) -> None:
        pass

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        return devices

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [torch.device(other_device.NAME, 0)]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    @staticmethod
    def name() -> str:
        return other_device.NAME

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        return {}


class Training(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)


def monitors(source: Literal["extra", "training"]) -> list[Any]:
    return [
        TailIndexMonitor(20, num_minibatches=16, full_gradient_batches=16, source=source, on_error="raise"),
        IterateTailIndexMonitor(window=16, burn_in=0),
        SharpnessMonitor(40, num_minibatches=1, on_error="raise"),
        WeightSpectrumMonitor(),
        FirstExitMonitor([0.1]),
    ]


def trained(callbacks: list[Any], device: torch.device) -> list[Tensor]:
    torch.manual_seed(0)
    module, rng = Training(), generator(7)
    data = TensorDataset(torch.randn(320, 20, generator=rng), torch.randint(3, (320,), generator=rng))
    accelerator = Elsewhere() if device.type == other_device.NAME else CPUAccelerator()
    trainer = Trainer(
        strategy=SingleDeviceStrategy(device, accelerator=accelerator),
        max_epochs=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
    )
    trainer.fit(module, DataLoader(data, batch_size=8, shuffle=True))
    return [parameter.detach().clone() for parameter in module.parameters()]


def assert_undisturbed(callbacks: list[Any], device: torch.device) -> None:
    for own, alone in zip(trained(callbacks, device), trained([], device), strict=True):
        assert torch.equal(own, alone), "training is disturbed"


def training(source: Literal["extra", "training"], device: torch.device) -> Any:
    callbacks = monitors(source)
    assert_undisturbed(callbacks, device)
    assert all(callback.reports for callback in callbacks)
    return []


class Disturbing(Callback):
    """Takes a random number of the device."""

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        torch.rand((), device=pl_module.device)


def disturbed(device: torch.device) -> Any:
    assert_undisturbed([Disturbing()], device)
    return []
