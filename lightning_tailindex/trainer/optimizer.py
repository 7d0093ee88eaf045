"""What the optimizers of a trainer are about to do."""

from __future__ import annotations

from .flavour import Trainer

__all__ = ["step_sizes"]


def step_sizes(trainer: Trainer) -> tuple[float, ...]:
    """Returns the step size of each parameter group of each optimizer, in their order, for the next step."""
    return tuple(float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups)
