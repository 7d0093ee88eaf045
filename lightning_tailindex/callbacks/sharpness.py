"""The largest eigenvalues and the trace of the training loss's Hessian, measured while training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal, final, get_args

from lightning_tailindex.curvature import num_lanczos_vectors
from lightning_tailindex.loggers import SharpnessFigureName, SharpnessPresentation
from lightning_tailindex.noise.groups import compile_patterns
from lightning_tailindex.noise.random_state import check_seed
from lightning_tailindex.records import SharpnessReport
from lightning_tailindex.records.notes import joined
from lightning_tailindex.trainer import (
    Batches,
    FixedMinibatches,
    SharpnessSettings,
    SharpnessSource,
    check_dataloader,
    check_parameters,
    check_sharpness,
    note_on_replicas,
    optimizer_steps,
    processes,
    stability_limit,
    step_sizes,
)
from lightning_tailindex.trainer.flavour import LightningModule, Trainer

from .arguments import check_at_least, check_positive, given, resolve_figures, with_plain_numbers
from .monitor import Monitor

__all__ = ["SharpnessMonitor"]


@final
class SharpnessMonitor(Monitor[SharpnessReport]):
    r"""Measures how sharply the training loss curves, and logs it beside what the step size allows.

    At the scheduled optimizer steps, step 0 included, it finds the largest eigenvalues and the trace of

    .. math:: H = \nabla^2 \frac{1}{n} \sum_{i=1}^n L_i(w)

    on n minibatches that are the same at every step, by products :math:`H v` alone: Lanczos' method (ARPACK) for the
    eigenvalues, Hutchinson's for the trace. Gradient descent of step size :math:`\eta` diverges along an eigenvector
    whose :math:`\eta \lambda` is above 2 (with momentum :math:`\beta`, above :math:`2 (1 + \beta)`); neural networks
    often train just there, at the edge of stability. Training itself is bit for bit what it is without the callback.

    The loss is that of ``training_step`` on a shadow of the module in training mode, each minibatch with random numbers
    (Dropout) and running averages of its own that are the same in every pass; BatchNorm uses minibatch statistics.
    Autocast is off, because products in half precision would be rounded to two or three digits, and attention uses its
    kernel that has second derivatives. Weight decay is not part of it.

    Each product costs some four forward passes of each minibatch. Memory, beside the passes': five vectors of the size
    of the measured parameters and the graph of one loader batch's gradient on the device; the minibatches on the host;
    and there, in the first process, ``4 * (max(2 * num_eigenvalues + 1, 20) + 2 * num_eigenvalues + 8)`` bytes for each
    measured parameter, but 108 for one eigenvalue (twice as much in double precision).

    Args:
        every_n_steps: Optimizer steps between measurements, at least 1.
        num_eigenvalues: Largest eigenvalues to find, at least 1, counted with their multiplicity; for several, 11
            products or more go into looking for copies of repeated ones.
        num_minibatches: Minibatches (what an optimizer step consumes) in the loss, at least 1; None for all of the
            training set, whose Hessian gradient descent without minibatches follows.
        trace_samples: Random vectors for the trace, at least 2; None for no trace.
        tolerance: Relative accuracy of the eigenvalues, above 0.
        max_products: Products with the Hessian that the eigenvalues of a measurement may take, more than twice
            max(2 * num_eigenvalues + 1, 20); eigenvalues that need more are NaN, with a note.
        parameters: Regular expressions of the names of the parameters whose Hessian it is; None for all.
        dataloader: What the minibatches are taken from instead of the training data: a DataLoader, which is shuffled,
            or any other iterable of batches, which is read from its start each time.
        figures: Names of functions in lightning_tailindex.figures that draw reports, or one of them, for the loggers
            that show figures; None for no figures.
        figures_every: Measurements between figures, at least 1; the last state of a training is drawn too.
        seed: Seed of the order of the data and of the random vectors, in [0, 2⁶³).
        on_error: What happens when a measurement fails: "warn" drops it with a warning and training goes on as if it
            had not been tried, "raise" ends training.

    Attributes:
        reports: The reports of this run, oldest first; after resuming from a checkpoint, the last 100 before it too.
        settings: What is measured.
        logged: How it is logged.

    Raises:
        ValueError: If an argument is out of its range; the error names it.

    References:
        Cohen, Kaur, Li, Kolter, Talwalkar (2021). Gradient Descent on Neural Networks Typically Occurs at the Edge of
        Stability. ICLR, arXiv:2103.00065.

        Pearlmutter (1994). Fast Exact Multiplication by the Hessian. Neural Computation, 6(1).

    Example:
        >>> monitor = SharpnessMonitor(every_n_steps=500, num_eigenvalues=3)
        >>> trainer = Trainer(callbacks=[monitor], logger=False, enable_checkpointing=False, accelerator="cpu")
        >>> monitor.reports
        []
    """

    @with_plain_numbers
    def __init__(
        self,
        every_n_steps: int = 1000,
        num_eigenvalues: int = 1,
        num_minibatches: int | None = 4,
        trace_samples: int | None = 10,
        tolerance: float = 1e-3,
        max_products: int = 100,
        parameters: str | Sequence[str] | None = None,
        dataloader: Batches | None = None,
        figures: SharpnessFigureName | Sequence[SharpnessFigureName] | None = ("sharpness_over_steps",),
        figures_every: int = 10,
        seed: int = 0,
        on_error: Literal["warn", "raise"] = "warn",
    ) -> None:
        arguments = given(locals())
        _check(arguments)
        super().__init__(
            SharpnessReport,
            SharpnessPresentation(resolve_figures(figures, get_args(SharpnessFigureName)), figures_every),
            arguments,
        )
        self.every_n_steps = every_n_steps
        self.num_minibatches = num_minibatches
        self.dataloader = dataloader
        self.settings = SharpnessSettings(
            num_eigenvalues=num_eigenvalues,
            trace_samples=trace_samples,
            tolerance=tolerance,
            max_products=max_products,
            patterns=compile_patterns(parameters),
            seed=seed,
        )
        self._minibatches: FixedMinibatches | None = None
        self._source: SharpnessSource | None = None

    def _check(self, trainer: Trainer, module: LightningModule) -> None:
        check_sharpness(trainer, module)

    def _begin(self, trainer: Trainer, module: LightningModule) -> tuple[int, str, str]:
        check_parameters(trainer, module, self.settings.patterns)
        self._minibatches = FixedMinibatches(trainer, self.num_minibatches, self.dataloader, self.settings.seed)
        self._source = SharpnessSource(self._minibatches, self.settings)
        number = self._minibatches.count(trainer)
        minibatches = "1 minibatch" if number == 1 else f"{number} minibatches"
        work = (
            f"{self.settings.most_products} products with the Hessian at most each time, which are of {minibatches}"
            f" and take some four forward passes of each{self._minibatches.note}"
        )
        return self.every_n_steps, "the sharpness", work

    def _is_ready(self, trainer: Trainer) -> bool:
        assert self._minibatches is not None
        return self._minibatches.is_ready

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Measures if this step is one to measure at."""
        self._measure_if_due(trainer, pl_module)
        with self._failures.told(f"the minibatch of step {optimizer_steps(trainer)} could not be kept"):
            if self._minibatches is not None:
                self._minibatches.see(trainer, batch)

    def _report(self, trainer: Trainer, pl_module: LightningModule, step: int) -> SharpnessReport:
        assert self._source is not None
        start = time.perf_counter()
        sizes, (limit, limit_note) = step_sizes(trainer), stability_limit(trainer)  # first, should they fail
        found = self._source.observe(trainer, pl_module)
        weights = dict(pl_module.named_parameters()).values
        replicas = note_on_replicas(processes(trainer), weights, "the Hessian is the mean of theirs")
        return SharpnessReport(
            step=step,
            eigenvalues=found.eigenvalues.values,
            residuals=found.eigenvalues.residuals,
            trace=found.trace.value,
            trace_error=found.trace.error,
            loss=found.loss,
            trace_samples=self.settings.trace_samples or 0,
            step_sizes=sizes,
            stability_limit=limit,
            num_parameters=found.num_parameters,
            num_minibatches=found.num_minibatches,
            minibatch_size=found.minibatch_size,
            num_products=found.num_products,
            seconds=time.perf_counter() - start,
            note=joined(found.note, limit_note, replicas),
        )


def _check(arguments: dict[str, Any]) -> None:
    for name in ("every_n_steps", "num_eigenvalues", "figures_every"):
        check_at_least(name, arguments[name], 1)
    check_at_least("num_minibatches", arguments["num_minibatches"], 1, or_none=True)
    check_at_least("trace_samples", arguments["trace_samples"], 2, or_none=True)
    wanted = arguments["num_eigenvalues"]
    products = f"max_products for num_eigenvalues={wanted}"
    check_at_least(products, arguments["max_products"], 2 * num_lanczos_vectors(wanted) + 1)
    check_seed(arguments["seed"])
    check_positive("tolerance", arguments["tolerance"])
    check_dataloader(arguments["dataloader"])
