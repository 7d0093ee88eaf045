"""The training data: read a second time where that can be done, remembered where it cannot."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Iterator
from typing import Any

from lightning.fabric.utilities.apply_func import move_data_to_device
from lightning.fabric.utilities.data import sized_len
from lightning.pytorch import Trainer
from torch.utils._pytree import tree_unflatten

from lightning_tailindex.noise.loaders import can_be_cloned, loader_batch_size, shuffled_batches
from lightning_tailindex.noise.minibatches import LoaderBatch, SweepPlan, guess_size

__all__ = ["Replay", "can_read_again", "sweep_plan", "training_data"]

_ENDLESS_MODES = ("min_size", "max_size_cycle")


def _combined_loader(trainer: Trainer) -> Any:
    return trainer.fit_loop._combined_loader


def can_read_again(trainer: Trainer) -> bool:
    """Whether the training data can be read a second time; streams cannot, and are replayed."""
    combined = _combined_loader(trainer)
    is_endless = len(combined.flattened) == 1 or combined._mode in _ENDLESS_MODES
    return is_endless and all(can_be_cloned(item) and sized_len(item) is not None for item in combined.flattened)


def sweep_plan(trainer: Trainer, num_minibatches: int, full_gradient_batches: int | None) -> SweepPlan:
    """Plans a measurement over data that can be read again.

    Args:
        trainer: The trainer, whose limits on batches and accumulation are followed.
        num_minibatches: Noise draws.
        full_gradient_batches: Minibatches averaged into the full gradient; None for a whole sweep.

    Returns:
        The plan.
    """
    return SweepPlan(
        num_minibatches=num_minibatches,
        full_gradient_batches=full_gradient_batches,
        sweep_length=int(trainer.num_training_batches),
        accumulation=trainer.accumulate_grad_batches,
        batch_size=loader_batch_size(_combined_loader(trainer).flattened[0]),
    )


def training_data(trainer: Trainer, seed: tuple[int, ...]) -> Iterator[LoaderBatch]:
    """Reads the training data in an order of its own, without end; training's loaders are not iterated.

    Args:
        trainer: The trainer.
        seed: Integers that determine the order.

    Yields:
        The batches as the trainer's loader would give them, before they are moved to the device.
    """
    combined = _combined_loader(trainer)
    streams = [
        shuffled_batches(loader, int(min(len(loader), trainer.num_training_batches)), (*seed, i), trainer.global_rank)
        for i, loader in enumerate(combined.flattened)
    ]
    for batches in zip(*streams, strict=False):
        yield LoaderBatch(tree_unflatten([batch.data for batch in batches], combined._spec), batches[0].size)


class Replay:
    """The last batches that training itself saw, for data that cannot be read a second time.

    Args:
        length: Batches to keep.
    """

    def __init__(self, length: int) -> None:
        self._batches: deque[object] = deque(maxlen=length)

    @property
    def is_full(self) -> bool:
        """Whether all the batches asked for have been seen."""
        return len(self._batches) == self._batches.maxlen

    def see(self, batch: object) -> None:
        """Keeps a copy of a batch that training is about to use, in main memory."""
        self._batches.append(copy.deepcopy(move_data_to_device(batch, "cpu")))

    def __iter__(self) -> Iterator[LoaderBatch]:
        for batch in self._batches:
            yield LoaderBatch(copy.deepcopy(batch), guess_size(batch))
