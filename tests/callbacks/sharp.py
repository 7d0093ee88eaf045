"""Nets whose curvature is measured, and short trainings of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_tailindex import SharpnessMonitor

EIGENVALUES = (8.0, 3.0, 1.0, -2.0)


def samples(size: int = 48) -> TensorDataset:
    generator = torch.Generator().manual_seed(0)
    return TensorDataset(torch.randn(size, 4, generator=generator), torch.randint(3, (size,), generator=generator))


class Classifier(LightningModule):
    """A small net; what makes its loss random or moving is in ``spoil``."""

    def __init__(self, spoil: nn.Module | None = None, optimizer: Callable[..., Any] = torch.optim.SGD) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), spoil or nn.Identity(), nn.Linear(6, 3))
        self.unused, self.frozen = nn.Linear(2, 2), nn.Linear(3, 3).requires_grad_(False)
        self.optimizer = optimizer

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.frozen(self.net(batch[0])), batch[1])

    def configure_optimizers(self) -> Any:
        return self.optimizer([p for p in self.parameters() if p.requires_grad], lr=0.1)


class Quadratic(LightningModule):
    """The loss w'Aw / 2, whatever the batch, under gradient descent."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))
        self.options = options

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return (torch.tensor(EIGENVALUES) * self.weight**2).sum() / 2

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), **self.options)


def watch(**options: Any) -> SharpnessMonitor:
    return SharpnessMonitor(**{"every_n_steps": 4, "trace_samples": 4, "on_error": "raise", "figures": None, **options})


def fit(
    module: LightningModule, *callbacks: Callback, data: Any = None, ckpt_path: str | None = None, **options: Any
) -> Trainer:
    settings = {"max_epochs": 1, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    bars = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(callbacks=list(callbacks), **{**settings, **bars, **options})
    trainer.fit(module, DataLoader(samples(), 4, shuffle=True) if data is None else data, ckpt_path=ckpt_path)
    return trainer


class Kept(Callback):
    """Keeps the weights before each step."""

    def __init__(self) -> None:
        self.weights: dict[int, dict[str, Tensor]] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.weights[trainer.global_step] = {k: v.clone() for k, v in pl_module.state_dict().items()}
