"""Callbacks that look at a training whose module is sharded over two processes."""

from __future__ import annotations

import gc
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.utils._pytree import tree_map

from lightning_tailindex.noise.engine import collect_gradients
from lightning_tailindex.noise.groups import by_module
from lightning_tailindex.noise.minibatches import Minibatch
from lightning_tailindex.noise.shadow import alias_shadow
from lightning_tailindex.noise.sharded import is_sharded


def _local(item: Any) -> Any:
    if not isinstance(item, Tensor):
        return item
    return (item.to_local() if is_sharded(item) else item).detach().clone()


def local(tree: Any) -> Any:
    """Copies what this process holds of a tree of tensors."""
    return tree_map(_local, tree)


class Seen(Callback):
    """Writes down each batch that training sees and each optimizer step's gradients."""

    def __init__(self) -> None:
        self.batches: list[Any] = []
        self.gradients: list[Any] = []
        self.losses: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self.batches.append(local(batch))

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.gradients.append(local([p.grad for p in pl_module.parameters()]))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(float(outputs["loss"]))


class InPlace(Callback):
    """The control: what one would write first, backward passes of training's own module, gradients put back."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx % 4 == 0:
            kept = [parameter.grad for parameter in pl_module.parameters()]
            extra = trainer.strategy.batch_to_device(next(iter(trainer.train_dataloader)))
            pl_module.training_step(extra, 0).backward()
            for parameter, gradient in zip(pl_module.parameters(), kept, strict=True):
                parameter.grad = gradient


class Sizes(Callback):
    """Looks what a measurement keeps in this process, and what the shadow and the module in training have."""

    def __init__(self) -> None:
        self.sizes: dict[str, Any] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        shadow = alias_shadow(pl_module)
        measured = dict(shadow.named_parameters())
        minibatches = [Minibatch((batch,), 6, is_draw, in_full_gradient=True) for is_draw in (True, True, False)]
        recorder = collect_gradients(
            shadow,
            measured,
            by_module,
            iter(minibatches),
            lambda batch: shadow.training_step(batch, 0),
            num_draws=2,
            max_coordinates=None,
            seed=0,
        )
        self.sizes = {
            "all": sum(parameter.numel() for parameter in measured.values()),
            "kept": sum(first.numel() for first in recorder.first.values()),
            "shard": sum(parameter.to_local().numel() for parameter in pl_module.parameters()),
            "has gradients": any(parameter.grad is not None for parameter in pl_module.parameters()),
            "classes": [type(part).__name__ for part in shadow.modules()],
            "classes in training": [type(part).__name__ for part in pl_module.modules()],
        }


class States(Callback):
    """Counts the states of sharded modules in memory, those of shadows included, while nobody else collects garbage."""

    def __init__(self) -> None:
        self.counts: list[int] = []

    def count(self) -> None:
        self.counts.append(sum(type(item).__name__ == "FSDPState" for item in gc.get_objects()))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        gc.collect()
        gc.disable()
        self.count()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *args: Any) -> None:
        self.count()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        gc.enable()
