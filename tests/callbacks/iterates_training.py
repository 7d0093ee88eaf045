"""Trainings whose iterates are watched."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_tailindex import IterateTailIndexMonitor

CHAINS = 1024


class Chains(LightningModule):
    """Many runs of SGD on least squares in one dimension, each on data of its own: ½ (a w − y)², a and y Gaussian.

    The loss is the sum over chains, so that each chain's gradient is its own. Theory gives the tail index of where such
    iterates settle, and the chains are independent draws of it.
    """

    def __init__(self, step_size: float, minibatch_size: int = 1, start: float = 0.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((CHAINS,), start))
        self.step_size, self.minibatch_size = step_size, minibatch_size

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        generator = torch.Generator().manual_seed(int(self.global_step))
        a, y = torch.randn(2, self.minibatch_size, CHAINS, generator=generator)
        return 0.5 * (a * self.weight - y).square().mean(0).sum()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.step_size)


def monitor(**options: Any) -> IterateTailIndexMonitor:
    return IterateTailIndexMonitor(**{"window": 16, "burn_in": 0, "on_error": "raise", **options})


def fit(module: LightningModule, *callbacks: Callback, batches: int = 10**5, **options: Any) -> Trainer:
    """Trains by minibatches of 8 samples that nobody looks at."""
    ckpt_path = options.pop("ckpt_path", None)
    settings = {
        "max_epochs": -1 if "max_steps" in options else 1,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": list(callbacks),
        **options,
    }
    trainer = Trainer(**settings)
    trainer.fit(module, DataLoader(torch.zeros(8 * batches, 1), batch_size=8), ckpt_path=ckpt_path)
    return trainer
