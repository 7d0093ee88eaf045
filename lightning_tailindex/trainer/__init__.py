"""All that knows Lightning's insides: loaders, precision, strategies, ranks, and how to leave them alone."""

from .data import Replay, can_read_again, sweep_plan, training_data
from .loss import borrowed_loss
from .state import check_measurable, is_stepping, last_step, needs_loss_scale, optimizer_steps, processes

__all__ = [
    "Replay",
    "borrowed_loss",
    "can_read_again",
    "check_measurable",
    "is_stepping",
    "last_step",
    "needs_loss_scale",
    "optimizer_steps",
    "processes",
    "sweep_plan",
    "training_data",
]
