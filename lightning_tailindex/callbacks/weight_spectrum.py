"""The spectra of the weight matrices, measured while training."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal, final, get_args

from lightning_tailindex.functional.weight_spectrum import Convolutions
from lightning_tailindex.loggers import SpectrumFigureName, SpectrumPresentation
from lightning_tailindex.noise.groups import check_patterns, compile_patterns
from lightning_tailindex.noise.resharding import gather_no_more
from lightning_tailindex.records import SpectrumReport
from lightning_tailindex.records.notes import joined
from lightning_tailindex.trainer import check_weights, note_on_replicas, processes
from lightning_tailindex.trainer.flavour import LightningModule, Trainer
from lightning_tailindex.weights import (
    SpectrumSettings,
    decomposition_cost,
    lazy_parameters,
    shaped_parameters,
    spectra,
    weight_matrices,
    without_exponent,
)

from .arguments import check_at_least, check_choice, given, resolve_figures, with_plain_numbers
from .monitor import Monitor

__all__ = ["WeightSpectrumMonitor"]


@final
class WeightSpectrumMonitor(Monitor[SpectrumReport]):
    r"""Measures the eigenvalues of each weight matrix and the power law of their density, and logs them.

    At the scheduled optimizer steps, step 0 included, and at the end of training, it finds the eigenvalues of

    .. math:: W^\top W, \qquad p(\lambda) \sim \lambda^{-e}, \quad \lambda \ge x_\mathrm{min}

    of every trainable weight of two dimensions and every kernel of a convolution, and with Clauset's
    :math:`x_\mathrm{min}` the *density exponent* e, which WeightWatcher calls alpha. It is no tail index of the
    gradient noise. Training itself is bit for bit what it is without the callback. All processes of DDP measure the
    same; of weights sharded by FSDP2 one matrix at a time is gathered. On one CPU core a matrix of 3072 × 768 takes
    0.4 s, one of 50257 × 768 takes 4 s.

    A parametrized weight, such as that of ``weight_norm``, is measured as the layer computes with it in evaluation, and
    so are a pruned one and one of the older hooks ``torch.nn.utils.weight_norm`` and ``spectral_norm``. A kernel of a
    convolution with groups is the matrix of all their rows, [out, in / groups × positions]. Of transposed convolutions
    a row is an output too. Of lazy modules what has a shape is measured, and the reports say what has none. Where the
    processes' weights differ, each measures its own, and the reports say so.

    Args:
        every_n_steps: Optimizer steps between measurements, at least 1.
        parameters: Regular expressions of the names of the parameters to measure, of a parametrized weight the names of
            what it is made of; None for all.
        convolutions: Which matrix a kernel is: "flattened", [out, in × positions]; "slices", the matrices [out, in] of
            all positions, with their eigenvalues pooled, as WeightWatcher does it.
        normalize: Whether eigenvalues are divided by the larger dimension, as in the theory of random matrices. It
            changes no density exponent.
        min_tail: Eigenvalues that a tail must have, at least 2; matrices with fewer have no density exponent, nor have
            those with fewer than 8 in all.
        max_dim: The largest smaller dimension of a matrix that is decomposed, at least 1; None for any. Larger ones
            are not measured, and the reports say so.
        figures: "weight_spectrum" to draw the spectra of the four largest matrices, for the loggers that show figures;
            None for no figures.
        figures_every: Measurements between figures, at least 1; the last state of a training is drawn too.
        max_detailed_matrices: Matrices, the largest, that are logged in detail, at least 1; None for all. Of the
            others the density exponent is logged, and reports have everything.
        on_error: What happens when a measurement fails: "warn" drops it with a warning and training goes on as if it
            had not been tried, "raise" ends training.

    Attributes:
        reports: The reports of this run, oldest first; after resuming from a checkpoint, the last 100 before it too.
        settings: What is measured.
        logged: How much of it is logged.

    Raises:
        ValueError: If an argument is out of its range; the error names it.

    References:
        Martin, Mahoney (2021). Implicit Self-Regularization in Deep Neural Networks. JMLR 22.

    Example:
        >>> monitor = WeightSpectrumMonitor(every_n_steps=500)
        >>> trainer = Trainer(callbacks=[monitor], logger=False, enable_checkpointing=False, accelerator="cpu")
        >>> monitor.reports
        []
    """

    @with_plain_numbers
    def __init__(
        self,
        every_n_steps: int = 1000,
        parameters: str | Sequence[str] | None = None,
        convolutions: Convolutions = "flattened",
        normalize: bool = False,
        min_tail: int = 8,
        max_dim: int | None = 4096,
        figures: SpectrumFigureName | Sequence[SpectrumFigureName] | None = "weight_spectrum",
        figures_every: int = 10,
        max_detailed_matrices: int | None = 12,
        on_error: Literal["warn", "raise"] = "warn",
    ) -> None:
        arguments = given(locals())
        _check(arguments)
        drawn = resolve_figures(figures, get_args(SpectrumFigureName))
        super().__init__(SpectrumReport, SpectrumPresentation(drawn, figures_every, max_detailed_matrices), arguments)
        self.every_n_steps = every_n_steps
        self.settings = SpectrumSettings(compile_patterns(parameters), convolutions, normalize, min_tail, max_dim)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Measures if this step is one to measure at."""
        self._measure_if_due(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measures the weights that training ends with, and draws the last state."""
        self._measure_last(trainer, pl_module)
        super().on_train_end(trainer, pl_module)

    def _check(self, trainer: Trainer, module: LightningModule) -> None:
        check_weights(trainer, of_shards=True)

    def _begin(self, trainer: Trainer, module: LightningModule) -> tuple[int, str, str]:
        check_patterns(module, self.settings.patterns)
        matrices = weight_matrices(module, self.settings.patterns)
        cost = decomposition_cost(matrices, self.settings)
        is_one = len(matrices) == 1
        what = "the spectrum of 1 weight matrix" if is_one else f"the spectra of {len(matrices)} weight matrices"
        return (
            self.every_n_steps,
            what,
            f"singular values, some {cost:.1g} operations each time, and once more at the end",
        )

    def _is_ready(self, trainer: Trainer) -> bool:
        module, patterns = trainer.lightning_module, self.settings.patterns
        return not lazy_parameters(module, patterns) or bool(weight_matrices(module, patterns))

    def _report(self, trainer: Trainer, module: LightningModule, step: int) -> SpectrumReport:
        start = time.perf_counter()
        # passes without a backward pass leave whole parameters, perhaps in another precision
        gather_no_more(module)
        patterns, together = self.settings.patterns, processes(trainer)
        matrices = together.all_or_none(lambda: weight_matrices(module, patterns))
        differences = note_on_replicas(together, lambda: shaped_parameters(module, patterns).values())
        found = spectra(matrices, self.settings, together)
        lazy = lazy_parameters(module, patterns)
        waiting = f"{len(lazy)} lazy parameters have no shape yet and are not measured" if lazy else ""
        notes = (without_exponent(found, self.settings.min_tail), waiting, differences)
        return SpectrumReport(step, found, time.perf_counter() - start, joined(*notes))


def _check(arguments: dict[str, Any]) -> None:
    for name, minimum in (("every_n_steps", 1), ("min_tail", 2), ("figures_every", 1)):
        check_at_least(name, arguments[name], minimum)
    for name in ("max_dim", "max_detailed_matrices"):
        check_at_least(name, arguments[name], 1, or_none=True)
    check_choice("convolutions", arguments["convolutions"], get_args(Convolutions))
    if not isinstance(arguments["normalize"], bool):
        raise ValueError(f"normalize must be True or False, got {arguments['normalize']!r}.")
