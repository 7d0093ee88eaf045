"""When the weights first leave a ball around a reference, and how they jump."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal, final

from torch import Tensor

from lightning_tailindex.loggers import FirstExitPresentation
from lightning_tailindex.records import FirstExitReport
from lightning_tailindex.trainer import (
    check_weights,
    is_stepping,
    note_on_replicas,
    optimizer_steps,
    processes,
    weights_of_checkpoint,
)
from lightning_tailindex.trainer.flavour import LightningModule, Trainer
from lightning_tailindex.weights import Unseen, WeightPath

from .arguments import check_at_least, given, resolve_radii, with_plain_numbers
from .monitor import Monitor
from .references import checked_reference, followed_weights, in_words, is_read, unlike, why_none

__all__ = ["FirstExitMonitor"]


@final
class FirstExitMonitor(Monitor[FirstExitReport]):
    r"""Follows the weights, and says when they first left a ball around a reference and how large their jumps are.

    After every optimizer step it compares the weights with the reference and with the step before. They are those that
    are trainable and have a shape when the reference is taken; reports count those that are trainable only later, and
    say which steps were not seen:

    .. math::
        \tau(r) = \min\{k : \lVert w_k - w_\mathrm{ref}\rVert > r\}, \qquad
        \max_i \lVert\Delta w_i\rVert \bigl/ \operatorname{median}_i \lVert\Delta w_i\rVert

    Where noise of tail index :math:`\alpha` drives the weights out of a basin, :math:`\tau(r) \sim r^\alpha`: with
    several radii the slope of log exit time against log radius is about :math:`\alpha`. Gaussian noise needs a time
    exponential in r. One run has one exit from each ball: the slope takes many runs. Training itself is bit for bit
    what it is without the callback; all processes of DDP see the same, and where their weights differ reports say so.
    Weights that are NaN are outside of every ball. Weights that stochastic weight averaging puts in place are no step.

    It keeps two copies of the trainable weights on their device, the reference and those of the last step: 8 bytes a
    parameter in float32, 4 with window=None. Checkpoints hold the reference, unless it is read from a file, and the
    exits, so that a resumed run with the same argument goes on from them. With another one, both are dropped: there is
    no distance from weights that this run has not seen. A later fit of another module, or of one whose weights have
    other names or shapes, begins anew, and reports say so. Looking takes two differences and a copy of all weights
    after every step, 0.12 s for 11 million parameters on one CPU core, which an accelerator does without waiting.

    Args:
        radii: Radii of the balls in the unit of the weights, above 0, or one of them; None for no exits.
        reference: Centre of the balls: "start" for the weights that training starts with, an optimizer step for those
            after so many steps, or the path of a checkpoint of this module.
        every_n_steps: Optimizer steps between reports, at least 1. Every optimizer step is looked at.
        window: Last optimizer steps that the largest and the median are of, at least 2; None to follow no steps.
        on_error: What happens when something fails: "warn" goes on with a warning, "raise" ends training.

    Attributes:
        reports: The reports of this run, oldest first; after resuming from a checkpoint, the last 100 before it too.
        logged: How they are logged.

    Raises:
        ValueError: If an argument is out of its range; the error names it.

    References:
        Nguyen, Şimşekli, Gürbüzbalaban, Richard (2019). First Exit Time Analysis of Stochastic Gradient Descent Under
        Heavy-Tailed Gradient Noise. NeurIPS, arXiv:1906.09069.

    Example:
        >>> monitor = FirstExitMonitor(radii=[0.5, 1.0, 2.0])
        >>> trainer = Trainer(callbacks=[monitor], logger=False, enable_checkpointing=False, accelerator="cpu")
        >>> monitor.reports
        []
    """

    @with_plain_numbers
    def __init__(
        self,
        radii: float | Sequence[float] | None = None,
        reference: int | str | Path = "start",
        every_n_steps: int = 100,
        window: int | None = 100,
        on_error: Literal["warn", "raise"] = "warn",
    ) -> None:
        arguments = given(locals())
        check_at_least("every_n_steps", every_n_steps, 1)
        check_at_least("window", window, 2, or_none=True)
        self.reference = checked_reference(reference)
        self.radii = resolve_radii(radii)
        presentation = FirstExitPresentation(in_words(self.reference), window is not None)
        own = {**arguments, "reference": self.reference, "radii": radii if radii is None else list(self.radii)}
        super().__init__(FirstExitReport, presentation, own)
        self.every_n_steps = every_n_steps
        self.window = window
        # its id: the trainer keeps the module before until it has the next, and no reference could be pickled
        self._module: int | None = None
        self._forget()
        self._is_stepping = True
        self._taken = -1
        self._seconds = 0.0

    def _forget(self, changed: int | None = None) -> None:
        """Drops reference and exits; with the step at which the module changed, if that is why."""
        self._path = WeightPath(self.radii, self.window)
        self._kept: dict[str, Tensor] = {}
        self._added: tuple[float, ...] = ()
        self._changed = changed

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run goes on from, the reference among it unless it is read from a file."""
        exits = [[radius, step] for radius, step in self._path.exits.items()]
        reference = {} if is_read(self.reference) else dict(self._path.reference)
        return {
            **super().state_dict(),
            "exits": exits,
            "radii": list(self.radii),
            "reference": reference,
            "reference_is": self.reference,
            "changed": self._changed,
            "unseen": self._path.unseen and list(self._path.unseen),
            "awaited": self._path.awaited,
        }

    def _resume(self, state_dict: dict[str, Any]) -> None:
        """Goes on from a state; of another reference, neither its weights nor its exits are taken."""
        super()._resume(state_dict)
        is_same = state_dict.get("reference_is", self.reference) == self.reference
        self._kept = dict(state_dict.get("reference", {})) if is_same else {}
        followed = state_dict.get("radii", self.radii)
        self._added = tuple(radius for radius in self.radii if radius not in followed) if is_same else ()
        kept = state_dict if is_same else {}
        unseen, awaited = kept.get("unseen"), kept.get("awaited")
        exits = dict(kept.get("exits", ()))
        self._path = WeightPath(self.radii, self.window, exits, unseen and Unseen(*unseen), awaited)
        self._changed = kept.get("changed")
        self._module = None  # the state is of whatever module is trained next

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Looks at the weights, and reports if this step is one to report at."""
        self._is_stepping = is_stepping(trainer)
        self._look(trainer, pl_module)
        self._measure_if_due(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks at the weights that the epoch's last step left, before the next epoch's start may change them."""
        self._look(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Reports the weights that the last step left."""
        self._measure_last(trainer, pl_module)
        super().on_train_end(trainer, pl_module)

    def _check(self, trainer: Trainer, module: LightningModule) -> None:
        check_weights(trainer, of_shards=False)

    def _begin(self, trainer: Trainer, module: LightningModule) -> tuple[int, str, str]:
        self._is_stepping, self._seconds = True, 0.0
        weights = self._settled(trainer, module)
        copies = 1 if self.window is None else 2
        work = "a copy" if copies == 1 else f"{copies} copies"
        size = copies * sum(weight.numel() * weight.element_size() for weight in weights.values())
        return (
            self.every_n_steps,
            "the distance of the weights from a reference",
            f"{work} of them, {size} bytes, after every step; and at the end",
        )

    def _is_ready(self, trainer: Trainer) -> bool:
        return True

    def _settled(self, trainer: Trainer, module: LightningModule) -> Mapping[str, Tensor]:
        """Drops what is of another training, takes the reference if it is known, and returns the weights followed."""
        is_later, weights = trainer.global_step > 0, dict[str, Tensor]()
        is_start = not is_later or self._is_changed(module)
        if is_start:
            self._forget(optimizer_steps(trainer) if is_later else None)
        self._module = id(module)
        # what is wrong before the first step is refused, whatever on_error says
        with self._failures.told("the reference could not be taken") if is_later else nullcontext():
            weights.update(self._weights(module))
            if not self._path.reference:
                self._path.leave_from(self._first_reference(weights, is_start), optimizer_steps(trainer))
                self._kept = {}
        return weights

    def _is_changed(self, module: LightningModule) -> bool:
        """Whether a later fit is of another module than the one before, or of one whose weights are others."""
        return self._module not in (None, id(module)) or bool(unlike(module, self._kept or self._path.reference))

    def _first_reference(self, weights: Mapping[str, Tensor], is_start: bool) -> Mapping[str, Tensor]:
        """The reference that is known when a fit begins; empty if none is."""
        if is_read(self.reference):
            return weights_of_checkpoint(str(self.reference), weights)
        if self._kept:
            return {name: self._kept[name].to(weight.device) for name, weight in weights.items()}
        return weights if self.reference == "start" and is_start else {}

    def _look(self, trainer: Trainer, module: LightningModule) -> None:
        step, start = optimizer_steps(trainer), time.perf_counter()
        if not self._is_stepping:
            if self._path.has_seen(step - 1):  # averaging counts a step that it does not make
                self._path.see({}, step, has_stepped=False)
            return
        with self._failures.told(f"the weights of step {step} could not be looked at"):
            self._look_at(trainer, module, step)
        self._seconds += time.perf_counter() - start

    def _look_at(self, trainer: Trainer, module: LightningModule, step: int) -> None:
        self._settle_anew(trainer, module)
        weights = self._weights(module)
        if step == self.reference and not self._path.reference:
            self._path.leave_from(weights, step)
        taken, self._taken = self._taken, trainer.global_step
        # manual optimization need not step on every batch, and may step by hand, which is not counted
        self._path.see(weights, step, has_stepped=taken == 0 or taken != trainer.global_step)

    def _settle_anew(self, trainer: Trainer, module: LightningModule) -> None:
        if self._module is None:  # a checkpoint was loaded in the middle of the run
            self._settled(trainer, module)

    def _weights(self, module: LightningModule) -> Mapping[str, Tensor]:
        return followed_weights(module, self._kept or self._path.reference)

    def _report(self, trainer: Trainer, module: LightningModule, step: int) -> FirstExitReport:
        self._settle_anew(trainer, module)
        if self._is_stepping and not self._path.has_seen(step):  # that failed, and may be possible by now
            self._look_at(trainer, module, step)
        differences = note_on_replicas(processes(trainer), lambda: self._weights(module).values())
        seconds, self._seconds = self._seconds, 0.0
        followed = self._weights(module)
        trainable = [name for name, each in module.named_parameters() if each.requires_grad]
        left = sum(name not in followed for name in trainable)
        others = f"{left} of {len(trainable)} trainable parameters are not followed: frozen, lazy or not there yet"
        what = "the module, or names or shapes of its weights, changed at step"
        changed = "" if self._changed is None else f"{what} {self._changed}: reference and exits began anew"
        none = "" if self._path.reference else why_none(self.reference, step)
        notes = (none, others if left else "", differences, self._without_history(), changed)
        return self._path.report(step, seconds, notes)

    def _without_history(self) -> str:
        """Says of which radii nobody knows whether they had been left before a run was resumed."""
        added = ", ".join(map(repr, self._added))
        what = "radii that were not followed before the run was resumed may have been left earlier"
        return f"{what}: {added}" if added else ""
