"""How many samples training's own batches have."""

from __future__ import annotations

from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from lightning_tailindex.noise.lengths import last_batch_size, loader_batch_size
from lightning_tailindex.noise.minibatches import guess_size

from .data import is_endless
from .flavour import Trainer
from .state import processes

__all__ = ["BatchSizes", "UsualSize"]


def _first_loader(trainer: Trainer) -> DataLoader[Any] | None:
    """The loader of training's first part of a batch; None where it is of another kind."""
    combined: Any = trainer.fit_loop._combined_loader
    loader = next(iter(combined.flattened), None)
    return loader if isinstance(loader, DataLoader) else None


def _is_in_each_batch(trainer: Trainer) -> bool:
    """Whether the first loader has a part in each batch, which the first tensor is of."""
    combined: Any = trainer.fit_loop._combined_loader
    return is_endless(combined.flattened, combined._mode)


def _ends_in_each_worker(loader: DataLoader[Any]) -> bool:
    """Whether worker processes that read a stream each end an epoch with batches of their own."""
    return isinstance(loader.dataset, IterableDataset) and loader.num_workers > 1 and not loader.drop_last


class BatchSizes:
    """Tells how many samples the batches have that training uses: by their first dimension, or else by the loader.

    A loader with a stock batch sampler says how many are in a complete batch. The first batch that is complete shows
    whether its first dimension says the same, or is something else, as of graphs the nodes or of series the steps.
    A stream's batches of 1 show nothing, because its items may be batches.
    """

    def __init__(self) -> None:
        self._is_of_samples: bool | None = None  # whether the first dimension is; None while nobody knows
        self._last: tuple[object, float, int | None] = (None, 0, None)

    def of(self, trainer: Trainer, batch: object) -> int | None:
        """Returns the samples in the batch that training is at; None where nobody knows.

        Of the last batch of a stream whose first dimension tells nothing it returns one sample less than complete: it
        may be cut.
        """
        guess, loader = guess_size(batch), _first_loader(trainer)
        if batch is None or loader is None or not _is_in_each_batch(trainer):
            return guess  # None is a batch that a step is yet to fetch
        complete = loader_batch_size(loader)
        if complete is None or (complete == 1 and isinstance(loader.dataset, IterableDataset)):
            return guess
        is_last = trainer.is_last_batch
        if guess is None or guess > complete:
            self._is_of_samples = False
        elif self._is_of_samples is None and not (is_last or _ends_in_each_worker(loader)):
            self._is_of_samples = guess == complete
        if self._is_of_samples or (self._is_of_samples is None and not is_last):
            return guess
        if not is_last:
            return complete
        nobody_knows = guess if self._is_of_samples is None else complete - (complete > 1)
        return self._last_of(loader, trainer.num_training_batches) or nobody_knows

    def _last_of(self, loader: DataLoader[Any], sweep_length: float) -> int | None:
        """Asks the loader, once as long as epochs are as long."""
        if self._last[0] is not loader or self._last[1] != sweep_length:
            self._last = loader, sweep_length, last_batch_size(loader, sweep_length)
        return self._last[2]


class UsualSize:
    """Tells a minibatch at the end of an epoch that has fewer samples than others: it is no draw of the same noise.

    Attributes:
        largest: Samples of the largest minibatch that this process has seen.
    """

    def __init__(self) -> None:
        self.largest = 0
        self._epoch, self._asks_always = -1, False

    def is_cut(self, trainer: Trainer, size: int, loader_batches: int = 1) -> bool:
        """Whether so many samples, of so many loader batches, are fewer than usual, in any process; each has to ask."""
        is_short, self.largest = size < self.largest, max(self.largest, size)
        loader = _first_loader(trainer)
        complete = None if loader is None or not _ends_in_each_worker(loader) else loader_batch_size(loader)
        if trainer.current_epoch != self._epoch:  # processes may have loaders of other settings, and yet ask alike
            self._epoch = trainer.current_epoch
            self._asks_always = not processes(trainer).all(complete is None)
        if not trainer.is_last_batch:
            if not self._asks_always:
                return False
            # else what varies is no number of samples
            is_short &= complete is not None and self.largest == complete * loader_batches
        return not processes(trainer).all(not is_short)
