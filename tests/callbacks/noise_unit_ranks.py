"""Run as a script: measures the same minibatches by two processes, by both units of the noise."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_tailindex import TailIndexMonitor
from lightning_tailindex.trainer.state import processes


class Linear(LightningModule):
    """Nothing random in it but where it starts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(6, 4)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.layer(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def samples(size: int = 192) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(size, 6, generator=generator), torch.randint(4, (size,), generator=generator))


def batches() -> list[list[Tensor]]:
    """Loader batches of 6 samples."""
    return list(DataLoader(samples(), batch_size=6))


def batches_of_two_kinds() -> list[list[Tensor]]:
    """Samples here and there with labels 0 and 1 in turns, so that each of two processes sees one kind."""
    return [[x + 3 - 6 * (i % 2), torch.full_like(y, i % 2)] for i, (x, y) in enumerate(batches())]


def report(
    unit: str, dataloader: Any = None, *, accumulation: int = 1, devices: int = 1, source: str = "extra", **more: Any
) -> dict[str, Any]:
    """Measures at step 0, or as soon as enough steps were seen, and returns the report."""
    monitor = TailIndexMonitor(
        every_n_steps=1000,
        num_minibatches=16,
        full_gradient_batches=None,
        noise_unit=unit,
        dataloader=dataloader,
        source=source,
        on_error="raise",
        **more,
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=devices,
        strategy=DDPStrategy(process_group_backend="gloo") if devices > 1 else "auto",
        accumulate_grad_batches=accumulation,
        max_epochs=1 if source == "extra" else 3,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[monitor],
    )
    trainer.fit(Linear(), DataLoader(samples(), batch_size=6, shuffle=True))
    return {**asdict(monitor.reports[0]), "seconds": 0}


class Gathers(Callback):
    """Asks all processes for a tensor whose numbers do not lie in their order."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.found = processes(trainer).gather(trainer.global_rank + torch.arange(6.0).view(2, 3).T)


def gathered() -> Tensor:
    """Gathers by two processes."""
    asking, quiet = Gathers(), {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
    strategy = DDPStrategy(process_group_backend="gloo")
    own: dict[str, Any] = {"accelerator": "cpu", "devices": 2, "strategy": strategy, "enable_checkpointing": False}
    Trainer(**own, **quiet, max_steps=1, callbacks=[asking]).fit(Linear(), DataLoader(samples(), batch_size=6))
    return asking.found


def main() -> None:
    results = {
        "gathered": gathered(),
        "step": report("step", batches(), devices=2),
        "loader": report("loader", batches(), devices=2),
        "step of two kinds": report("step", batches_of_two_kinds(), devices=2),
        "training data by step": report("step", accumulation=4, devices=2),
        "training data by loader": report("loader", accumulation=4, devices=2),
        "steps of a whole sweep": report("step", accumulation=16, devices=2),
        "gradients of training": report("step", devices=2, source="training"),
        "every coordinate by step": report("step", batches(), devices=2, max_coordinates=None),
        "every coordinate by loader": report("loader", batches(), devices=2, max_coordinates=None),
    }
    torch.save(results, Path(sys.argv[1]) / f"rank{os.environ.get('LOCAL_RANK', '0')}.pt")


if __name__ == "__main__":
    main()
