"""Run as a script: two processes whose training steps wait for each other, or that have different samples."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from lightning_tailindex import TailIndexMonitor
from tests.callbacks.weight_training import QUIET

RANK = int(os.environ.get("LOCAL_RANK", "0"))
SEEN: set[int] = set()


class Waits(LightningModule):
    """Weights its loss by the samples of all processes; the first one does what cannot be done for many minibatches."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 1)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        if RANK == 0:
            random.random()
        number = torch.tensor(float(len(batch[0])))
        samples = self.trainer.strategy.reduce(number, reduce_op="sum")
        return self.layer(batch[0]).square().sum() * self.trainer.world_size / samples

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Remembers(Waits):
    """Says which samples it saw."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        SEEN.update(batch[1].tolist())
        return self.layer(batch[0]).square().mean()


class OwnOrder(RandomSampler):
    """Nobody but its author knows its order."""


def fitted(
    module: LightningModule, size: int, monitors: list[TailIndexMonitor], own: bool = False, **options: Any
) -> dict[str, Tensor]:
    """The weights after a training."""
    x = torch.randn(size, 6, generator=torch.Generator().manual_seed(RANK))
    trainer = Trainer(
        devices=2,
        strategy=DDPStrategy(process_group_backend="gloo"),
        max_epochs=2,
        callbacks=list(monitors),
        **QUIET,
        **options,
    )
    torch.manual_seed(1)
    data = TensorDataset(x, torch.arange(size))
    trainer.fit(module, DataLoader(data, 8, sampler=(OwnOrder if own else RandomSampler)(data)))
    return module.state_dict()


def compared(kind: type[LightningModule], size: int, engine: Any, **options: Any) -> dict[str, Any]:
    """Trains without and with a measurement every four steps."""
    SEEN.clear()
    without, trained = fitted(kind(), size, [], **options), set(SEEN)
    monitor = TailIndexMonitor(every_n_steps=4, num_minibatches=16, engine=engine, on_error="raise")
    with_it = fitted(kind(), size, [monitor], **options)
    return {
        "without": without,
        "with": with_it,
        "draws": [report.whole_model.num_draws for report in monitor.reports],
        "alphas": [report.whole_model.alpha for report in monitor.reports],
        "unseen": sorted(SEEN - trained),
    }


def main() -> None:
    results = {
        "waits": compared(Waits, 96, "auto"),
        "uneven": compared(Waits, [48, 42][RANK], "loop", use_distributed_sampler=False),
        "uneven in its own order": compared(Waits, [48, 42][RANK], "loop", own=True, use_distributed_sampler=False),
        "even in its own order": compared(Waits, 44, "loop", own=True, use_distributed_sampler=False),
        "overfits": compared(Remembers, 64, "loop", overfit_batches=2),
    }
    torch.save(results, Path(sys.argv[1]) / f"rank{RANK}.pt")


if __name__ == "__main__":
    main()
