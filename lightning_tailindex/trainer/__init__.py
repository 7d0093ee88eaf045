"""All that knows Lightning's insides: loaders, precision, strategies, ranks, and how to leave them alone."""

from .extra_minibatches import ExtraMinibatches, NoiseSettings
from .state import check_measurable, is_stepping, last_step, optimizer_steps

__all__ = [
    "ExtraMinibatches",
    "NoiseSettings",
    "check_measurable",
    "is_stepping",
    "last_step",
    "optimizer_steps",
]
