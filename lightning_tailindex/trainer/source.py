"""Where the gradient noise comes from."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from lightning_tailindex.noise.engine import Engine
from lightning_tailindex.noise.groups import Grouping
from lightning_tailindex.noise.lengths import loader_batch_size
from lightning_tailindex.noise.observation import NoiseObservation
from lightning_tailindex.noise.pairs import PairRecorder
from lightning_tailindex.noise.processes import NoiseUnit, Processes

from .flavour import LightningModule, Trainer
from .state import processes

__all__ = ["NoiseSettings", "NoiseSource", "UsualSize"]

_SAMPLE = 1024  # for what needs all draws at once, where every coordinate is measured


@dataclass(frozen=True)
class NoiseSettings:
    """What is measured, as the arguments of ``TailIndexMonitor`` of the same names say.

    Attributes:
        num_minibatches: Noise draws, over all processes.
        full_gradient_batches: Minibatches averaged into the full gradient; None for a whole sweep.
        grouping: Function from a parameter's name to its group's.
        patterns: Expressions of the parameters' names; none for all.
        max_coordinates: Coordinates sampled per group; None for every one of them in pairs of draws, and a sample.
        seed: Seed of everything that is drawn.
        noise_unit: What a draw is.
        engine: How gradients are computed.
    """

    num_minibatches: int
    full_gradient_batches: int | None
    grouping: Grouping
    patterns: tuple[re.Pattern[str], ...]
    max_coordinates: int | None
    seed: int
    noise_unit: NoiseUnit
    engine: Engine

    @property
    def sample_size(self) -> int:
        """Coordinates per group whose draws are kept."""
        return _SAMPLE if self.max_coordinates is None else self.max_coordinates

    def pairs(self, measured: Mapping[str, nn.Parameter], together: Processes) -> PairRecorder | None:
        """Makes what takes every coordinate, where that is wanted."""
        return PairRecorder(measured, together) if self.max_coordinates is None else None

    def accumulation(self, trainer: Trainer) -> int:
        """Returns the loader batches of one process in a draw."""
        return trainer.accumulate_grad_batches if self.noise_unit == "step" else 1

    def share(self, total: int, trainer: Trainer) -> int:
        """Returns how many of all minibatches a process computes; where they are its own, all compute as many."""
        return total if self.noise_unit == "step" else -(-total // trainer.world_size)


def _batch_size_of_workers(trainer: Trainer) -> int | None:
    """Samples in a complete loader batch of a stream whose workers each end an epoch with a batch of their own."""
    combined: Any = trainer.fit_loop._combined_loader
    loader: Any = next(iter(combined.flattened), None)
    is_stream = isinstance(loader, DataLoader) and isinstance(loader.dataset, IterableDataset)
    return loader_batch_size(loader) if is_stream and loader.num_workers > 1 and not loader.drop_last else None


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
        complete = _batch_size_of_workers(trainer)
        if trainer.current_epoch != self._epoch:  # processes may have loaders of other settings, and yet ask alike
            self._epoch = trainer.current_epoch
            self._asks_always = not processes(trainer).all(complete is None)
        if not trainer.is_last_batch:
            if not self._asks_always:
                return False
            # else what varies is no number of samples
            is_short &= complete is not None and self.largest == complete * loader_batches
        return not processes(trainer).all(not is_short)


class NoiseSource(ABC):
    """Where the gradient noise comes from: passes beside training, or those of training itself."""

    @property
    @abstractmethod
    def note(self) -> str:
        """What the reader of the announcement has to know of the data; empty where nothing is special."""

    @property
    @abstractmethod
    def waits_for(self) -> str:
        """What of training it has to see before it is ready, in words; empty where it waits for nothing."""

    @abstractmethod
    def work(self, trainer: Trainer) -> tuple[str, float]:
        """Says what a measurement takes: in words, and in minibatch passes, those of training being the unit."""

    @abstractmethod
    def is_ready(self, trainer: Trainer) -> bool:
        """Whether this process has something to measure."""

    @abstractmethod
    def wants(self, trainer: Trainer, steps_left: int) -> bool:
        """Whether training's minibatches are to be shown, so many steps before the next measurement."""

    @abstractmethod
    def see(self, trainer: Trainer, batch: object, batch_idx: int) -> None:
        """Takes what it needs of a batch that training is about to use."""

    @abstractmethod
    def see_gradients(self, module: LightningModule) -> None:
        """Takes what it needs of the gradients that an optimizer step is about to use."""

    @abstractmethod
    def observe(self, trainer: Trainer, module: LightningModule, step: int) -> NoiseObservation:
        """Measures; every process has to call it, and none waits for one that failed.

        Args:
            trainer: The trainer.
            module: The module in training.
            step: Optimizer steps taken.

        Returns:
            The noise, the same in all processes.

        Raises:
            OtherProcessError: If another process failed.
        """
