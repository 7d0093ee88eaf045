"""Minibatches that are the same at every measurement of a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import final

from lightning_tailindex.noise.minibatches import Minibatch, SweepPlan, plan_minibatches

from .batch_sizes import BatchSizes
from .data import Data, Replay, can_read_again, data_of, why_not_again
from .flavour import MisconfigurationException, Trainer

__all__ = ["FixedMinibatches"]


@final
class FixedMinibatches:
    """Reads the same minibatches again and again: by a seeded order, or those of a stream that training first saw.

    A minibatch is what an optimizer step consumes: loader batch × accumulation × ranks, each process having its share.
    Accumulation is the trainer's when this is made: if a callback changes it during training, they stay what they are.

    Args:
        trainer: The trainer, whose data decide.
        count: How many; None for the whole training set. There are no more than are in one sweep over the data.
        dataloader: What they are taken from instead of the training data; None for the training data.
        seed: Seed of their order.

    Raises:
        MisconfigurationException: If all minibatches of a stream are asked for.
    """

    def __init__(self, trainer: Trainer, count: int | None, dataloader: Iterable[object] | None, seed: int) -> None:
        self._count, self._dataloader, self._seed = count, dataloader, seed
        self._accumulation = trainer.accumulate_grad_batches
        is_stream = dataloader is None and not can_read_again(trainer)
        if count is None and (is_stream or data_of(trainer, dataloader, None).sweep_length is None):
            raise MisconfigurationException("num_minibatches must be a number for data without a length, got None.")
        self._reason = why_not_again(trainer)
        self._replay = Replay((count or 1) * self._accumulation) if is_stream else None
        self._sizes = BatchSizes()

    @property
    def is_replayed(self) -> bool:
        """Whether they are a stream's, and on the host as training saw them."""
        return self._replay is not None

    @property
    def note(self) -> str:
        """Says that the data are not read again, if they are not."""
        return "" if self._replay is None else f", which are the first that training sees, as {self._reason}"

    @property
    def is_ready(self) -> bool:
        """Whether this process has its minibatches: always, or once training has seen enough of a stream."""
        return self._replay is None or self._replay.is_full

    def see(self, trainer: Trainer, batch: object) -> None:
        """Keeps a copy of a batch that training is about to use, of the first ones of a stream."""
        if self._replay is not None and not self._replay.is_full:
            self._replay.see(batch, self._sizes.of(trainer, batch))

    def count(self, trainer: Trainer) -> int:
        """Counts them."""
        return self._plan(data_of(trainer, self._dataloader, self._replay)).num_full

    def read(self, trainer: Trainer) -> list[Minibatch]:
        """Reads this process's share of them; its order draws from random states that the caller has seeded.

        Raises:
            ValueError: If there are none, which nobody knows beforehand of an iterable without a length.
        """
        data = data_of(trainer, self._dataloader, self._replay)
        minibatches = list(plan_minibatches(data.read((self._seed,)), self._plan(data)))
        if not minibatches:
            raise ValueError("the data have no minibatch.")
        return minibatches

    def _plan(self, data: Data) -> SweepPlan:
        length = (self._count or 1) * self._accumulation if data.sweep_length is None else data.sweep_length
        return SweepPlan(0, self._count, length, self._accumulation, data.batch_size)
