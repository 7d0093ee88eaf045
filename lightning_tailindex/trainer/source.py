"""Where the gradient noise comes from."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from lightning_tailindex.noise.engine import Engine
from lightning_tailindex.noise.groups import Grouping
from lightning_tailindex.noise.observation import NoiseObservation
from lightning_tailindex.noise.pairs import PairRecorder
from lightning_tailindex.noise.processes import NoiseUnit, Processes

from .flavour import LightningModule, Trainer

__all__ = ["NoiseSettings", "NoiseSource"]

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
