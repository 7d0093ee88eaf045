"""The Hessian of the training loss on fixed minibatches: its largest eigenvalues and its trace."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import final

import torch
from torch import Tensor

from lightning_tailindex.curvature import (
    Eigenvalues,
    Hessian,
    Restored,
    Trace,
    WeightedLoss,
    hutchinson_trace,
    largest_eigenvalues,
)
from lightning_tailindex.noise.groups import measured_parameters
from lightning_tailindex.noise.leading import led
from lightning_tailindex.noise.minibatches import Minibatch, copied
from lightning_tailindex.noise.processes import Processes
from lightning_tailindex.noise.random_state import derived_seed, isolated_random_state
from lightning_tailindex.records.notes import joined

from .fixed_minibatches import FixedMinibatches
from .flavour import LightningModule, MisconfigurationException, Trainer
from .loss import borrowed_loss
from .progress import MeasurementBar
from .state import check_measurable, may_shard, processes

__all__ = ["Curvature", "SharpnessSettings", "SharpnessSource", "check_sharpness"]

_COARSE = (torch.half, torch.bfloat16)


@dataclass(frozen=True)
class SharpnessSettings:
    """What is measured, as the arguments of ``SharpnessMonitor`` of the same names say.

    Attributes:
        num_eigenvalues: Largest eigenvalues.
        trace_samples: Random vectors for the trace; None for no trace.
        tolerance: Relative accuracy of the eigenvalues.
        max_products: Products that the eigenvalues may take.
        patterns: Expressions of the parameters' names; none for all.
        seed: Seed of everything that is drawn.
    """

    num_eigenvalues: int
    trace_samples: int | None
    tolerance: float
    max_products: int
    patterns: tuple[re.Pattern[str], ...]
    seed: int

    @property
    def most_products(self) -> int:
        """Products in a measurement, at most."""
        return self.max_products + (self.trace_samples or 0)


@dataclass(frozen=True)
class Curvature:
    """The curvature at one point of training, the same in all processes.

    Attributes:
        eigenvalues: The largest eigenvalues.
        trace: The trace.
        loss: The loss.
        num_parameters: Rows of the Hessian.
        num_minibatches: Minibatches that the loss is the mean over.
        minibatch_size: Samples in the first of them over all processes; 0 where nobody knows.
        num_products: Products that were computed.
        note: What a reader has to know, in words; empty where nothing is special.
    """

    eigenvalues: Eigenvalues
    trace: Trace
    loss: float
    num_parameters: int
    num_minibatches: int
    minibatch_size: int
    num_products: int
    note: str


def check_sharpness(trainer: Trainer, module: LightningModule) -> None:
    """Refuses what cannot be measured, before training starts.

    Raises:
        MisconfigurationException: If the strategy shards or replaces parameters, or calling ``training_step`` would
            step optimizers or read training's own iterator and the module does not define ``gradient_noise_step``.
    """
    if may_shard(trainer):
        name = type(trainer.strategy).__name__
        rule = "shards of parameters (FSDP2) cannot be differentiated twice. Use a single device or DDP"
        raise MisconfigurationException(f"The sharpness cannot be measured under {name}: {rule}.")
    check_measurable(trainer, module, "step", "The sharpness")


@dataclass
class _Answers:
    """Products of the whole Hessian, to which every process adds its share; and what else came with them."""

    hessian: Hessian
    together: Processes
    losses: list[float] = field(default_factory=list)

    def __call__(self, vector: Tensor) -> Tensor:
        """Returns the sum over minibatches, and behind it their loss and their weight; fails in all or in none."""
        total = self.together.mean(self.together.all_or_none(lambda: self.hessian.product(vector)))
        loss, weight = total[-2:].tolist()
        if weight == 0:
            raise ValueError("no minibatch has a loss.")  # in every process
        self.losses.append(loss / weight)
        return total

    @property
    def note(self) -> str:
        """Says if passes of the same minibatches had different losses."""
        low, high = min(self.losses), max(self.losses)
        drift = high - low > 1e-4 * max(abs(low), abs(high))
        return f"the loss is not the same in every pass, it goes from {low:.6g} to {high:.6g}" if drift else ""


@final
class SharpnessSource:
    """Measures the curvature of the training loss.

    Args:
        minibatches: Where the loss is measured.
        settings: What is measured.
    """

    def __init__(self, minibatches: FixedMinibatches, settings: SharpnessSettings) -> None:
        self._minibatches, self._settings = minibatches, settings
        self._bar = MeasurementBar("Sharpness")

    def observe(self, trainer: Trainer, module: LightningModule) -> Curvature:
        """Measures; every process has to call it, and none waits for one that failed.

        Raises:
            OtherProcessError: If another process failed.
        """
        together = processes(trainer)
        with ExitStack() as stack:
            hessian, size, number = together.all_or_none(
                lambda: stack.enter_context(self._hessian(trainer, module)), lambda own: own[2]
            )
            bar = self._bar.over(count(), trainer, self._settings.most_products)
            stack.callback(_quietly, bar.close)
            answers = _Answers(hessian, together)
            found: tuple[Eigenvalues, Trace] = led(
                together,
                trainer.is_global_zero,
                lambda ask: self._analysis(lambda vector: _product(ask(vector), bar), hessian),
                answers,
                lambda: torch.empty(hessian.size, dtype=hessian.dtype, device=hessian.device),
                lambda found: trainer.strategy.broadcast(found),
            )
            eigenvalues, trace = found
            notes = [eigenvalues.note, trace.note, answers.note, _rounding(hessian)]
            return Curvature(
                eigenvalues,
                trace,
                answers.losses[0],
                hessian.size,
                number,
                size * together.count,
                len(answers.losses),
                joined(*notes),
            )

    def _analysis(self, ask: Callable[[Tensor], Tensor], hessian: Hessian) -> tuple[Eigenvalues, Trace]:
        settings = self._settings
        eigenvalues = largest_eigenvalues(
            ask,
            hessian.size,
            settings.num_eigenvalues,
            tolerance=settings.tolerance,
            max_products=settings.max_products,
            seed=settings.seed,
            dtype=hessian.dtype,
            device=hessian.device,
        )
        if settings.trace_samples is None:
            return eigenvalues, Trace(float("nan"), float("nan"))
        samples, seed = settings.trace_samples, derived_seed(settings.seed, 1)
        return eigenvalues, hutchinson_trace(
            ask, hessian.size, samples, seed=seed, dtype=hessian.dtype, device=hessian.device
        )

    @contextmanager
    def _hessian(self, trainer: Trainer, module: LightningModule) -> Iterator[tuple[Hessian, int, int]]:
        """Lends this process's share of the Hessian, with the samples in its first minibatch and their number."""
        seed = derived_seed(self._settings.seed, trainer.global_rank)
        with borrowed_loss(
            trainer, module, seed, lambda: None, is_transferred=self._minibatches.is_replayed, is_mixed=False
        ) as (shadow, loss):
            minibatches = self._minibatches.read(trainer)
            parameters = measured_parameters(shadow, self._settings.patterns).values()
            losses = list(_losses(minibatches, loss, Restored(shadow), seed, trainer.strategy.root_device))
            yield Hessian(parameters, losses), minibatches[0].size, len(minibatches)


def _product(total: Tensor, bar: Iterator[object]) -> Tensor:
    """Makes the product of an answer, and shows that there is one more: what the asking process does by itself."""
    _quietly(lambda: next(bar))
    product: Tensor = total[:-2] / total[-1]
    return product


def _quietly(shows: Callable[[], object]) -> None:
    """Shows something; a bar that cannot be drawn, as where the terminal is gone, spoils no measurement."""
    with suppress(Exception):
        shows()


def _losses(
    minibatches: list[Minibatch], loss: Callable[..., object], restore: Restored, seed: int, device: torch.device
) -> Iterator[WeightedLoss]:
    """Makes of each loader batch a function that gives the same loss whenever it is called."""
    number = count()
    for minibatch in minibatches:
        for batch in minibatch.batches:
            yield minibatch.weight / len(minibatch.batches), _fixed(batch, next(number), loss, restore, seed, device)


def _fixed(
    batch: object, number: int, loss: Callable[..., object], restore: Restored, seed: int, device: torch.device
) -> Callable[[], object]:
    def compute() -> object:
        restore()
        # a training step may write into its batch, and this one comes again
        with isolated_random_state(derived_seed(seed, number), device):
            return loss(copied(batch), number)

    return compute


def _rounding(hessian: Hessian) -> str:
    types = {str(each.dtype).removeprefix("torch.") for each in hessian.parameters if each.dtype in _COARSE}
    return f"parameters are {' and '.join(sorted(types))}: products are rounded to two or three digits" if types else ""
