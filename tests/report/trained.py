"""Short trainings whose event files are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from torch.utils.data import DataLoader, TensorDataset

from lightning_tailindex import TailIndexMonitor
from lightning_tailindex.records import Report
from tests.loggers.training import TwoLayers

SCRIPT = "<script>alert(1)</script>"


class Net(TwoLayers):
    def __init__(self, width: int = 6, **more: Any) -> None:
        super().__init__(width)
        self.save_hyperparameters()


def train(
    folder: Path, module: LightningModule, *, batch_size: int = 4, prefix: str = "", **monitor: Any
) -> tuple[Report, ...]:
    """Trains for 21 steps, measured at 0, 10 and 20, and logged in a folder."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(200, 4, generator=generator), torch.randint(2, (200,), generator=generator)
    data = DataLoader(TensorDataset(x, y), batch_size=batch_size, shuffle=True, generator=generator)
    callback = TailIndexMonitor(
        **{"every_n_steps": 10, "num_minibatches": 32, "figures": (), "on_error": "raise", **monitor}
    )
    trainer = Trainer(
        max_steps=21,
        accelerator="cpu",
        callbacks=[callback],
        logger=TensorBoardLogger(folder.parent, name=None, version=folder.name, prefix=prefix),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, data)
    return tuple(callback.reports)


def event_file(folder: Path) -> Path:
    (file,) = folder.glob("*tfevents*")
    return file
