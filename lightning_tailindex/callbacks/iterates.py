"""The tail index of SGD's iterates, measured while training."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, final, get_args

from torch.optim import Optimizer

from lightning_tailindex.analysis import analyse_iterates
from lightning_tailindex.loggers import IterateFigureName, IteratePresentation
from lightning_tailindex.noise.groups import GroupingName, check_grouping, compile_patterns, resolve_grouping
from lightning_tailindex.noise.random_state import check_seed, derived_seed
from lightning_tailindex.records import IterateReport
from lightning_tailindex.trainer import (
    IterateSettings,
    IterateWatch,
    Replicas,
    Window,
    check_parameters,
    check_weights,
    last_step,
    optimizer_steps,
    steps_after_batch,
)
from lightning_tailindex.trainer.flavour import LightningModule, Trainer

from .arguments import check_at_least, check_choice, given, resolve_figures, with_plain_numbers
from .monitor import Monitor

__all__ = ["IterateTailIndexMonitor"]

_FEWEST_ITERATES = 16
"""With fewer snapshots a coordinate says too little about its own scale."""


@final
class IterateTailIndexMonitor(Monitor[IterateReport]):
    r"""Measures how heavy the tails of SGD's iterates are once training has settled, and logs it.

    After a burn-in it follows a sample of the weights' coordinates over windows of optimizer steps, and estimates the
    tail index :math:`\alpha` of their ergodic averages

    .. math:: \bar w = \frac{1}{K} \sum_{k=1}^K w_k

    across coordinates, and of the deviations :math:`w_k - \bar w`, per group of parameters and for the whole model. In
    memory it keeps a running mean and at most 256 snapshots, whatever the window. Theory says that the iterates' tails
    grow heavier with the step size η over the minibatch size b, which are logged beside. The headline is that of the
    ergodic averages by grouped maximum likelihood: iterates have power-law tails and no stable law, while averages of
    many of them tend to a stable law of the same α, which is what such an estimator is for. In the whole model, each
    group has a centre and a scale of its own: mixed scales would seem a heavy tail. Nothing is computed but what
    training computes anyway, and training is bit for bit what it is without the callback.

    Args:
        window: Optimizer steps in a window, and between measurements, at least 16.
        burn_in: Optimizer steps before the first window, at least 0; None to wait until no fall of training's own
            loss can be told: until its mean over one window's steps is no longer below that over the window before by
            more than two standard errors.
        group_by: Parameters analysed together: "module" (those of one submodule), "parameter", "model" (nothing finer
            than the whole model, whose scales are then mixed), or a function from a parameter's name to its group's.
        parameters: Regular expressions of the names of the parameters to follow; None for all.
        max_coordinates: Coordinates sampled in each group, at least 1, the same throughout a run.
        replicas: Whose weights, of several processes: "same" for one of them where training keeps them the same, as
            DDP does; "average" for the average of all, where they differ, as in local or decentralized SGD; "each" for
            that and for each by itself.
        figures: Names of the figures of iterates that draw reports, or one of them, for the loggers that show figures;
            None for no figures.
        figures_every: Windows between figures, at least 1; the last state of a training is drawn too.
        max_detailed_groups: Groups, the largest, that are logged in detail beside the whole model, at least 1; None for
            all. Of the others, the headline is logged, and reports have everything.
        seed: Seed of the sampled coordinates and the Gaussian surrogates, in [0, 2⁶³).
        on_error: What happens when a measurement fails: "warn" drops it with a warning and training goes on as if it
            had not been tried, "raise" ends training.

    Attributes:
        reports: The reports of this run, oldest first; after resuming from a checkpoint, the last 100 before it too.
            A resumed run begins a window, and collects repetitions, anew; a burn-in that was found stays found.
        settings: What is followed.
        logged: How much of it is logged.

    Raises:
        ValueError: If an argument is out of its range; the error names it.

    References:
        Gürbüzbalaban, Şimşekli, Zhu (2021). The Heavy-Tail Phenomenon in SGD. ICML, arXiv:2006.04740. Gürbüzbalaban,
        Hu, Şimşekli, Yuan, Zhu (2022). Heavy-Tail Phenomenon in Decentralized SGD. arXiv:2205.06689, for replicas.

    Example:
        >>> monitor = IterateTailIndexMonitor(window=500, burn_in=2000)
        >>> trainer = Trainer(callbacks=[monitor], logger=False, enable_checkpointing=False, accelerator="cpu")
        >>> monitor.reports
        []
    """

    _measures_after_steps = True
    _is_ready_alike = True

    @with_plain_numbers
    def __init__(
        self,
        window: int = 1000,
        burn_in: int | None = None,
        group_by: GroupingName | Callable[[str], str] = "module",
        parameters: str | Sequence[str] | None = None,
        max_coordinates: int = 1024,
        replicas: Replicas = "same",
        figures: IterateFigureName | Sequence[IterateFigureName] | None = "iterate_alphas",
        figures_every: int = 10,
        max_detailed_groups: int | None = 12,
        seed: int = 0,
        on_error: Literal["warn", "raise"] = "warn",
    ) -> None:
        arguments = given(locals())
        check_at_least("window", window, _FEWEST_ITERATES)
        check_at_least("burn_in", burn_in, 0, or_none=True)
        check_at_least("max_detailed_groups", max_detailed_groups, 1, or_none=True)
        for name in ("max_coordinates", "figures_every"):
            check_at_least(name, arguments[name], 1)
        check_seed(seed)
        check_choice("replicas", replicas, get_args(Replicas))
        drawn = resolve_figures(figures, get_args(IterateFigureName))
        super().__init__(IterateReport, IteratePresentation(drawn, figures_every, max_detailed_groups), arguments)
        self.settings = IterateSettings(
            window=window,
            burn_in=burn_in,
            grouping=resolve_grouping(group_by),
            patterns=compile_patterns(parameters),
            max_coordinates=max_coordinates,
            replicas=replicas,
            seed=seed,
        )
        self._watch: IterateWatch | None = None
        self._found: int | None = None
        self._module: int | None = None  # the id of the one that was trained; None after a checkpoint

    def state_dict(self) -> dict[str, Any]:
        """Returns what a resumed run goes on from: what every monitor keeps, and the burn-in that was found."""
        return {**super().state_dict(), "burn_in": self._burn_in}

    def _resume(self, state_dict: dict[str, Any]) -> None:
        super()._resume(state_dict)
        self._found, self._watch, self._module = state_dict.get("burn_in"), None, None

    @property
    def _burn_in(self) -> int | None:
        """The burn-in that was found by the loss so far."""
        return self._found if self._watch is None else self._watch.found

    def _check(self, trainer: Trainer, module: LightningModule) -> None:
        check_weights(trainer, of_shards=False)

    def _begin(self, trainer: Trainer, module: LightningModule) -> tuple[int, str, str]:
        check_parameters(trainer, module, self.settings.patterns)
        check_grouping(module, self.settings.patterns, self.settings.grouping)
        is_other = self._module not in (None, id(module))  # whose loss has not settled
        self._found = None if trainer.global_step == 0 or is_other else self._burn_in
        self._watch = None
        self._watched(trainer)
        windows = self.settings.beginning(self._found, optimizer_steps(trainer), last_step(trainer, module))
        work = f"a running mean and snapshots of sampled weights; windows begin {windows}"
        return self.settings.window, "the tail index of the iterates", work

    def _watched(self, trainer: Trainer) -> IterateWatch:
        """What follows the run; begun anew where a checkpoint was loaded in the middle of it."""
        if self._watch is None:
            self._watch = IterateWatch(trainer, self.settings, self._found)
            self._module = id(trainer.lightning_module)
        return self._watch

    def _is_ready(self, trainer: Trainer) -> bool:
        return self._watched(trainer).is_full(steps_after_batch(trainer))

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Looks how large the batch is, which the step may take apart."""
        with self._failures.told(f"the minibatch of step {optimizer_steps(trainer)} could not be counted"):
            self._watched(trainer).begin_batch(trainer, batch)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        """Looks how large the step will be."""
        with self._failures.told(f"the step size of step {optimizer_steps(trainer)} could not be read"):
            self._watched(trainer).see_optimizer(optimizer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Takes the weights after a step, and measures at the end of a window."""
        step = steps_after_batch(trainer)
        with self._failures.told(f"the minibatch of step {step} could not be counted"):
            # not as the batch begins: a step may fetch it itself, or be left out by the module's on_train_batch_start
            self._watched(trainer).see_batch(trainer, batch)
        with self._failures.told(f"the loss of step {step} could not be kept"):
            self._watched(trainer).see_loss(trainer, pl_module, outputs)
        with self._failures.told(f"the iterate of step {step} could not be kept"):
            self._watched(trainer).see_step(trainer, pl_module, step)
        self._measure_if_due(trainer, pl_module, step)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the last state, or says why there is nothing to see."""
        self._why_nothing = "" if self._watch is None else self._watch.why_no_window
        super().on_train_end(trainer, pl_module)

    def _report(self, trainer: Trainer, module: LightningModule, step: int) -> IterateReport:
        start = time.perf_counter()

        def analysis(window: Window) -> IterateReport:
            return analyse_iterates(
                window.iterates,
                step=step,
                parameter_groups=window.parameter_groups,
                minibatch_size=window.minibatch_size,
                replicas=self.settings.replicas,
                seed=derived_seed(self.settings.seed, step),
                clock=lambda: time.perf_counter() - start,
            )

        return self._watched(trainer).observe(trainer, step, analysis)
