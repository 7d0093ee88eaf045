"""SGD's iterates as training makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.optim import Optimizer

from lightning_tailindex.iterates import GroupIterates, IterateObservation, IterateRecorder, Repetitions, Settling
from lightning_tailindex.noise.processes import Processes
from lightning_tailindex.records import ParameterGroup

from .batch_sizes import BatchSizes
from .flavour import LightningModule, Trainer
from .optimizer import StepSizes
from .sampled_weights import IterateSettings, SampledWeights
from .state import is_stepping, optimizer_steps, processes

__all__ = ["IterateWatch", "Window"]

T = TypeVar("T")

_DIFFERENCE = 1e-9  # of weights that are the same: averages over processes may be rounded


class Window(NamedTuple):
    """What was seen in a window: iterates, how optimizers moved the weights, and samples in a minibatch."""

    iterates: IterateObservation
    parameter_groups: tuple[ParameterGroup, ...]
    minibatch_size: float


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
        self._repetitions = Repetitions(torch.empty(0, device="cpu"), ())
        self._has_ended = False
        self._sizes = BatchSizes()
        self._shown: tuple[object, int] = (None, 0)
        self._clear(trainer)

    def _clear(self, trainer: Trainer) -> None:
        self._weights: SampledWeights | None = None
        self._recorder: IterateRecorder | None = None
        self._steps = StepSizes(trainer.optimizers)
        self._samples = 0

    def begin_batch(self, trainer: Trainer, batch: object) -> None:
        """Looks how many samples a batch has before a step is made of it, if one is."""
        self._shown = batch, self._sizes.of(trainer, batch) or 0

    def see_batch(self, trainer: Trainer, batch: object) -> None:
        """Counts the samples of the batch that a step was made of: the one that was shown, or one it fetched."""
        (shown, size), self._shown = self._shown, (None, 0)
        self._samples += size if batch is shown else self._sizes.of(trainer, batch) or 0

    def see_optimizer(self, optimizer: Optimizer) -> None:
        """Looks how an optimizer is about to step."""
        self._steps.see(optimizer)

    def see_loss(self, trainer: Trainer, module: LightningModule, outputs: object) -> None:
        """Takes the loss that training computed, until it has settled."""
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if self._start is None and isinstance(loss, Tensor):
            # Lightning has divided it by what a schedule may change
            self._settling.see(loss * trainer.accumulate_grad_batches if module.automatic_optimization else loss)

    def see_step(self, trainer: Trainer, module: LightningModule, step: int) -> None:
        """Takes the weights after an optimizer step, or decides whether the loss has settled."""
        if step == self._last or not is_stepping(trainer):
            return  # gradients are accumulated, or stochastic weight averaging has put its own weights in place
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
            self._weights = SampledWeights(module, self._settings)
            self._recorder = IterateRecorder(self._settings.window, self._weights.read())
        self._recorder.record(self._weights.read())

    def is_full(self, step: int) -> bool:
        """Whether a window ends at a step; the same in all processes."""
        return self._start is not None and step >= self._start + self._settings.window

    @property
    def why_no_window(self) -> str:
        """Says why no window has ended so far; empty if one has."""
        if self._has_ended:
            return ""
        if self._start is None and self._last - self._begun >= self._settings.window:
            return "the loss had not settled; burn_in=0 begins at once"
        return "no window was full"

    def observe(self, trainer: Trainer, step: int, analyse: Callable[[Window], T]) -> T:
        """Ends a window and begins the next; every process has to call it, and none waits for one that failed.

        Args:
            trainer: The trainer.
            step: Optimizer steps taken.
            analyse: What to make of the window, which is the same in all processes.

        Returns:
            What it made of it.

        Raises:
            OtherProcessError: If another process failed.
            ValueError: If replicas that ought to be the same are not.
        """
        together, self._has_ended = processes(trainer), True
        try:
            mean, snapshots, samples = together.all_or_none(lambda: self._own(together, trainer.lightning_module))
            # the processes ask each other for all that they need, and then each works by itself until they agree
            means, kept = self._of_replicas(together, mean, snapshots)
            size = together.mean(samples)

            def work() -> tuple[T, Repetitions]:
                assert self._weights is not None
                averages, deviations = self._judged(mean, means, kept)
                # of each worker where there are any
                known = self._repetitions.and_of(averages[min(1, len(averages) - 1) :], self._weights.widths)
                observation = self._observation(averages, deviations, known.rows)
                # manual optimization need not step on every batch, or may step several times
                steps = min(self._steps.most, self._settings.window) or self._settings.window
                per_step = size.item() * together.count / steps
                return analyse(Window(observation, self._steps.read(), per_step)), known

            result, self._repetitions = together.all_or_none(work)
            return result
        finally:
            self._start = step
            self._clear(trainer)

    def _own(self, together: Processes, module: LightningModule) -> tuple[Tensor, Tensor, Tensor]:
        """What this process recorded, and the samples that it used."""
        if self._recorder is None or not self._recorder.is_full:
            kept = 0 if self._recorder is None else self._recorder.count
            raise ValueError(f"the window needs {self._settings.window} iterates, {kept} could be kept.")
        if self._weights is None or not self._weights.are_of(module):
            raise ValueError("parameters that were followed are no longer in the module: others took their place.")
        samples = torch.tensor(float(self._samples), device=together.device)
        return self._recorder.mean, self._recorder.snapshots, samples

    def _of_replicas(self, together: Processes, mean: Tensor, snapshots: Tensor) -> tuple[Tensor, Tensor]:
        """Ergodic averages of all replicas or of their average, ``[replicas, d]``, and the snapshots needed."""
        if together.count == 1:
            return mean[None], snapshots[None]
        if self._settings.replicas == "average":
            return together.mean(mean)[None], together.mean(snapshots)[None]
        every = together.gather(snapshots) if self._settings.replicas == "each" else snapshots[None]
        return together.gather(mean), every

    def _judged(self, own: Tensor, means: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Ergodic averages and deviations of what is asked for, ``[1 + workers, ...]``."""
        if len(means) > 1:
            average = means.mean(0, keepdim=True)
            if self._settings.replicas == "each":
                means, kept = torch.cat([average, means]), torch.cat([kept.mean(0, keepdim=True), kept])
            else:
                _check_same(means - average, average)
                means = own[None]
        return means, kept - means[:, None]

    def _observation(self, means: Tensor, deviations: Tensor, repetitions: Tensor) -> IterateObservation:
        assert self._weights is not None
        assert self._recorder is not None
        weights, stride = self._weights, self._recorder.stride
        burn_in = self._settings.burn_in if self.found is None else self.found
        assert burn_in is not None
        groups = []
        for name in weights.groups:
            columns = weights.sample.columns[name].to(means.device)
            parts = (means[:, columns], deviations[:, :, columns], repetitions[:, columns])
            groups.append(GroupIterates(name, *parts, num_coordinates=weights.sample.sizes[name]))
        return IterateObservation(tuple(groups), self._settings.window, stride, burn_in, self.found is not None)


def _check_same(differences: Tensor, average: Tensor) -> None:
    """Refuses replicas that differ; each process sees all of them."""
    difference = differences.abs().max().item()
    if difference > _DIFFERENCE * average.abs().max().item():
        raise ValueError(
            f'replicas="same" needs the same weights in every process, their means over the window differ by up to'
            f' {difference:.2g}: give "average" or "each".'
        )
