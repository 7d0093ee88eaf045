"""A training that can stop at a step and go on from its checkpoint bit for bit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, TensorDataset

from lightning_tailindex import TailIndexMonitor
from lightning_tailindex.records import Report

from .training_trace import Trace, seed_everything

END = 60


def samples() -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(80, 4, generator=generator), torch.randint(2, (80,), generator=generator))


class Net(LightningModule):
    """Has a layer that no gradient reaches, whose numbers are NaN, and random numbers in the loss that is measured.

    Training takes the loss of the whole training set, whatever the batch: Lightning gives a run that stopped within an
    epoch neither its place in the data back nor its random states.
    """

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.unused = nn.Linear(4, 6), nn.Linear(6, 2), nn.Linear(2, 2)
        self.dropout = nn.Dropout(0.2)

    def loss(self, x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(self.second(self.first(x).relu()), y)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.loss(*samples().tensors)

    def gradient_noise_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.loss(self.dropout(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.05)


class EpochNet(Net):
    """Trains on its batches, in an order that each epoch determines."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.loss(*batch)


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        yield from zip(*samples().tensors, strict=True)


class Crash(Callback):
    """Ends training in the middle of a step."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        if trainer.global_step == self.step:
            raise ValueError("broken on purpose")


class ReportsSoFar(Callback):
    """Notes what the monitor holds when training starts."""

    def __init__(self, monitor: TailIndexMonitor) -> None:
        self.monitor = monitor
        self.reports: list[Report] = []
        self.metrics: dict[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.reports = list(self.monitor.reports)
        self.metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}


def run(
    path: Path,
    max_steps: int = END,
    ckpt_path: Path | None = None,
    module: type[Net] = Net,
    is_stream: bool = False,
    others: Sequence[Callback] = (),
    **options: Any,
) -> tuple[TailIndexMonitor, ReportsSoFar, Net]:
    """Trains for 20 steps an epoch, from random states that differ from run to run, and saves the last step."""
    monitor = TailIndexMonitor(**{"every_n_steps": 4, "num_minibatches": 16, "on_error": "raise", **options})
    before, saving = ReportsSoFar(monitor), ModelCheckpoint(path, "{step}", every_n_train_steps=max_steps)
    seed_everything()
    net = module()
    torch.manual_seed(max_steps)
    data = samples()
    loader = (
        DataLoader(Stream(), batch_size=4)
        if is_stream
        else DataLoader(data, batch_size=4, sampler=DistributedSampler(data, 1, 0))
    )
    trainer = Trainer(
        max_steps=max_steps,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[monitor, before, saving, *others],
        default_root_dir=path,
    )
    trainer.fit(net, loader, ckpt_path=ckpt_path)
    return monitor, before, net


def compared(reports: list[Report]) -> Trace:
    return Trace({str(report.step): {**dataclasses.asdict(report), "seconds": 0} for report in reports})
