"""All that knows Lightning's insides: loaders, precision, strategies, ranks, and how to leave them alone."""

from .data import Batches, check_dataloader
from .extra_minibatches import ExtraMinibatches, NoiseSettings
from .state import check_measurable, check_parameters, is_stepping, last_step, optimizer_steps, processes
from .training_gradients import TrainingGradients

__all__ = [
    "Batches",
    "ExtraMinibatches",
    "NoiseSettings",
    "TrainingGradients",
    "check_dataloader",
    "check_measurable",
    "check_parameters",
    "is_stepping",
    "last_step",
    "optimizer_steps",
    "processes",
]
