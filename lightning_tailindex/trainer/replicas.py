"""Whether processes that train together have the same weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from lightning_tailindex.noise.groups import measured_parameters
from lightning_tailindex.noise.processes import Processes

from .flavour import LightningModule, Trainer
from .state import processes

__all__ = ["note_on_gradients", "note_on_replicas"]

_DIFFERENCE = 1e-9
"""Relative difference of sums of the same weights; processes of other processors may round otherwise."""
_OWN = "each measures its own, and loggers have those of the first"


def note_on_replicas(
    together: Processes,
    weights: Callable[[], Iterable[Tensor]],
    then: str = _OWN,
) -> str:
    """Says if processes have different weights, as where a strategy averages them only now and then.

    It compares the norm and the sum of all weights; every process has to call it, and none waits for one that failed.
    Shards are no replicas: of them it says nothing.

    Args:
        together: The processes that train together.
        weights: Lists the weights of this process.
        then: What is measured if they differ.

    Returns:
        A sentence, the same in every process; empty where the weights are the same.

    Raises:
        Exception: What went wrong in this process.
        OtherProcessError: If another process failed.
    """
    if together.count == 1 or together.total is not None:
        return ""
    every = together.gather(together.all_or_none(lambda: torch.stack(_sums(weights())).to(together.device)))
    if torch.allclose(every, every[:1].expand_as(every), rtol=_DIFFERENCE, atol=0.0, equal_nan=True):
        return ""
    return f"weights differ between processes: {then}"


def note_on_gradients(
    trainer: Trainer, module: LightningModule, patterns: Iterable[re.Pattern[str]], *, are_own: bool
) -> str:
    """Says so of the parameters whose gradients are measured.

    Args:
        trainer: The trainer.
        module: The module in training.
        patterns: Expressions of the parameters' names; none for all.
        are_own: Whether each process measures its own gradients; else they are put together.

    Returns:
        The sentence.

    Raises:
        Exception: As :func:`note_on_replicas` does.
    """
    then = _OWN if are_own else "the gradients of each are taken at its own"
    return note_on_replicas(processes(trainer), lambda: measured_parameters(module, patterns).values(), then)


def _sums(weights: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Norm and sum of all weights."""
    real = [torch.view_as_real(each.detach()) if each.is_complex() else each.detach() for each in weights]
    zero = torch.zeros((), dtype=torch.float64, device=real[0].device if real else None)
    # quantized parameters are integers, or of a byte, of which there are no norms
    real = [each if each.is_floating_point() and each.element_size() > 1 else each.to(torch.float64) for each in real]
    norms = [torch.linalg.vector_norm(each, dtype=torch.float64).to(zero) for each in real]
    sums = [each.sum(dtype=torch.float64).to(zero) for each in real]
    return torch.linalg.vector_norm(torch.stack([zero, *norms])), torch.stack([zero, *sums]).sum()
