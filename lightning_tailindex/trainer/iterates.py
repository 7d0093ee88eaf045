"""SGD's iterates as training makes them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_tailindex.iterates import GroupIterates, IterateObservation, IterateRecorder, Settling
from lightning_tailindex.noise.coordinates import CoordinateSample, kept_dtype, sample_parameters
from lightning_tailindex.noise.groups import Grouping, group_names, measured_parameters
from lightning_tailindex.noise.minibatches import guess_size
from lightning_tailindex.noise.processes import Processes
from lightning_tailindex.noise.recorder import flat_gradient
from lightning_tailindex.noise.sharded import is_sharded
from lightning_tailindex.records import ParameterGroup

from .flavour import LightningModule, Trainer
from .optimizer import StepSizes
from .state import optimizer_steps, processes

__all__ = ["IterateSettings", "IterateWatch", "Replicas"]

Replicas = Literal["same", "average", "each"]
"""Whose iterates: of replicas that are the same, of their average, or of their average and each of them."""

_MOST_REPETITIONS = 256
_DIFFERENCE = 1e-9  # of weights that are the same: averages over processes may be rounded


@dataclass(frozen=True)
class IterateSettings:
    """What is followed, as the arguments of ``IterateTailIndexMonitor`` of the same names say.

    Attributes:
        window: Iterates in a window.
        burn_in: Optimizer steps before the first window; None to find it by the loss.
        grouping: Function from a parameter's name to its group's.
        patterns: Expressions of the parameters' names; none for all.
        max_coordinates: Coordinates sampled per group.
        replicas: Whose iterates.
        seed: Seed of the sample.
    """

    window: int
    burn_in: int | None
    grouping: Grouping
    patterns: tuple[re.Pattern[str], ...]
    max_coordinates: int
    replicas: Replicas
    seed: int

    def beginning(self, found: int | None) -> str:
        """Says where windows begin, given the burn-in that was found before, in a part of a sentence."""
        if self.burn_in is not None:
            return f"after a burn-in of {self.burn_in} steps"
        if found is not None:
            return f"after the burn-in of {found} steps that was found before"
        return f"once the mean loss no longer falls from one {self.window} steps to the next"


class _Weights:
    """The sampled coordinates of a module's trainable weights, gathered into one row."""

    def __init__(self, module: LightningModule, settings: IterateSettings) -> None:
        measured = measured_parameters(module, settings.patterns)
        for name, parameter in measured.items():
            if is_sharded(parameter):
                raise ValueError(f"iterates need weights that are whole in each process, {name!r} is sharded.")
        self.groups = group_names(measured, settings.grouping)
        self.sample: CoordinateSample = sample_parameters(
            measured, self.groups, settings.max_coordinates, settings.seed
        )
        self._parts = [(measured[name], index.to(measured[name].device)) for name, index in self.sample.indices.items()]
        self._dtype = kept_dtype(parameter for parameter, _ in self._parts)
        self._device = self._parts[0][0].device

    def read(self) -> Tensor:
        """Returns the weights as they are, ``[d]``."""
        with torch.no_grad():
            parts = [flat_gradient(p).index_select(0, index).to(self._device, self._dtype) for p, index in self._parts]
            return torch.cat(parts)


class IterateWatch:
    """Follows a run's iterates, window after window, and the steps and minibatches that lead to them.

    Where windows begin depends on optimizer steps and on losses that all processes agree on, never on what went wrong
    in one of them: so all of them ask each other at the same steps.

    Args:
        trainer: The trainer.
        settings: What is followed.
        found: The burn-in that an earlier part of the run found; None if it found none.

    Attributes:
        found: The burn-in that was found by the loss; None while it is not, or was given.
    """

    def __init__(self, trainer: Trainer, settings: IterateSettings, found: int | None) -> None:
        steps = optimizer_steps(trainer)
        self.found = found if settings.burn_in is None else None
        known = found if settings.burn_in is None else settings.burn_in
        self._settings = settings
        self._settling = Settling(trainer.strategy.root_device)
        self._begun = self._last = steps
        self._start = None if known is None else max(known, steps)
        self._repetitions: Tensor | None = None
        self._clear(trainer)

    def _clear(self, trainer: Trainer) -> None:
        self._weights: _Weights | None = None
        self._recorder: IterateRecorder | None = None
        self._steps = StepSizes(trainer.optimizers)
        self._samples = self._count = 0

    def see_batch(self, batch: object) -> None:
        """Looks how many samples a batch has that training is about to use."""
        self._samples += guess_size(batch) or 0

    def see_optimizer(self, optimizer: Optimizer) -> None:
        """Looks how an optimizer is about to step."""
        self._steps.see(optimizer)

    def see_loss(self, outputs: object) -> None:
        """Takes the loss that training computed, until it has settled."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if self._start is None and isinstance(loss, Tensor):
            self._settling.see(loss)

    def see_step(self, trainer: Trainer, module: LightningModule, step: int) -> None:
        """Takes the weights after an optimizer step, or decides whether the loss has settled."""
        if step == self._last:
            return  # gradients are accumulated
        self._last = step
        if self._start is None:
            self._decide(trainer, step)
        elif step == self._start:
            self._clear(trainer)
        elif step > self._start:
            self._record(module)

    def _decide(self, trainer: Trainer, step: int) -> None:
        if (step - self._begun) % self._settings.window == 0:
            together = processes(trainer)
            if self._settling.end_block(together.mean, together.count):
                self.found = self._start = step
                self._clear(trainer)

    def _record(self, module: LightningModule) -> None:
        if self._weights is None or self._recorder is None:
            self._weights = _Weights(module, self._settings)
            self._recorder = IterateRecorder(self._settings.window, self._weights.read())
        self._recorder.record(self._weights.read())
        self._count += 1

    def is_full(self, step: int) -> bool:
        """Whether a window ends at a step; the same in all processes."""
        return self._start is not None and step >= self._start + self._settings.window

    def observe(self, trainer: Trainer, step: int) -> tuple[IterateObservation, tuple[ParameterGroup, ...], float]:
        """Ends a window and begins the next; every process has to call it, and none waits for one that failed.

        Args:
            trainer: The trainer.
            step: Optimizer steps taken.

        Returns:
            The window, the same in all processes; how optimizers moved the weights; samples in a minibatch.

        Raises:
            OtherProcessError: If another process failed.
            ValueError: If replicas that ought to be the same are not.
        """
        together = processes(trainer)
        try:
            mean, snapshots = together.all_or_none(self._own)
            assert self._weights is not None
            assert self._recorder is not None
            means, deviations = self._of_replicas(together, mean, snapshots)
            self._repeat(means)
            samples = together.mean(torch.tensor(float(self._samples), device=together.device)).item()
            size = samples * together.count / self._settings.window
            return self._observation(self._weights, self._recorder.stride, means, deviations), self._steps.read(), size
        finally:
            self._start = step
            self._clear(trainer)

    def _own(self) -> tuple[Tensor, Tensor]:
        """What this process recorded."""
        if self._recorder is None or not self._recorder.is_full:
            raise ValueError(f"the window needs {self._settings.window} iterates, {self._count} could be kept.")
        return self._recorder.mean, self._recorder.snapshots

    def _of_replicas(self, together: Processes, mean: Tensor, snapshots: Tensor) -> tuple[Tensor, Tensor]:
        """Ergodic averages and deviations of what is asked for, ``[1 + workers, ...]``."""
        if together.count == 1:
            means, kept = mean[None], snapshots[None]
        elif self._settings.replicas == "each":
            each, every = together.gather(mean), together.gather(snapshots)
            means, kept = (torch.cat([x.mean(0, keepdim=True), x]) for x in (each, every))
        else:
            means, kept = together.mean(mean)[None], snapshots[None]
            if self._settings.replicas == "average":
                kept = together.mean(snapshots)[None]
            else:
                _check_same(together, mean, means[0])
                means = mean[None]
        return means, kept - means[:, None]

    def _repeat(self, means: Tensor) -> None:
        """Adds the window's ergodic averages, those of each worker where there are any, to the draws."""
        new = means[min(1, len(means) - 1) :]
        old = self._repetitions
        if old is not None and old.shape[1:] == new.shape[1:]:
            new = torch.cat([old, new])
        self._repetitions = new[-_MOST_REPETITIONS:].clone()

    def _observation(self, weights: _Weights, stride: int, means: Tensor, deviations: Tensor) -> IterateObservation:
        assert self._repetitions is not None
        burn_in = self._settings.burn_in if self.found is None else self.found
        assert burn_in is not None
        groups = []
        for name in weights.groups:
            columns = weights.sample.columns[name].to(means.device)
            parts = (means[:, columns], deviations[:, :, columns], self._repetitions[:, columns])
            groups.append(GroupIterates(name, *parts, num_coordinates=weights.sample.sizes[name]))
        return IterateObservation(tuple(groups), self._settings.window, stride, burn_in, self.found is not None)


def _check_same(together: Processes, own: Tensor, average: Tensor) -> None:
    """Refuses replicas that differ, in every process."""
    largest = torch.stack([(own - average).abs().max(), own.abs().max()])
    difference, size = together.mean(largest).tolist()
    if difference > _DIFFERENCE * size:
        raise ValueError(
            f'replicas="same" needs the same weights in every process, their means over the window differ by up to'
            f' {difference:.2g}: give "average" or "each".'
        )
