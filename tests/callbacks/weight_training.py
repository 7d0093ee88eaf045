"""A module and monitors for tests of what measures weights."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn

from lightning_tailindex import FirstExitMonitor, WeightSpectrumMonitor

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


class Shrink(Callback):
    """What one would write first, and gets wrong: the control. It scales the weights that it decomposes, in place."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        for weight in pl_module.parameters():
            weight.data.div_(weight.data.norm().clamp(min=1e-3))


class AllKinds(LightningModule):
    """Matrices of every kind, and parameters that are none."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(30, 12)
        self.convolution = nn.Conv1d(12, 16, 3, padding=1)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.positions = nn.Parameter(torch.zeros(1, 4, 16))
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 3)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x = self.embedding(batch[0])
        x = self.convolution(x.mT).mT + self.positions
        x = self.norm(self.attention(x, x, x, need_weights=False)[0])
        return nn.functional.cross_entropy(self.head(x.mean(1)), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def monitors() -> list[Any]:
    return [
        WeightSpectrumMonitor(every_n_steps=4, min_tail=3, on_error="raise"),
        FirstExitMonitor([0.1, 0.5, 50.0], every_n_steps=5, window=6, on_error="raise"),
    ]
