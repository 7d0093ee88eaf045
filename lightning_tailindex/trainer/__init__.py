"""All that knows Lightning's insides: loaders, precision, strategies, ranks, and how to leave them alone."""

from .data import Batches, check_dataloader
from .extra_minibatches import ExtraMinibatches
from .fixed_minibatches import FixedMinibatches
from .optimizer import step_sizes
from .sharpness import SharpnessSettings, SharpnessSource, check_sharpness
from .source import NoiseSettings, NoiseSource
from .stability import stability_limit
from .state import check_alone, check_measurable, check_parameters, is_stepping, last_step, optimizer_steps, processes
from .training_gradients import TrainingGradients

__all__ = [
    "Batches",
    "ExtraMinibatches",
    "FixedMinibatches",
    "NoiseSettings",
    "NoiseSource",
    "SharpnessSettings",
    "SharpnessSource",
    "TrainingGradients",
    "check_alone",
    "check_dataloader",
    "check_measurable",
    "check_parameters",
    "check_sharpness",
    "is_stepping",
    "last_step",
    "optimizer_steps",
    "processes",
    "stability_limit",
    "step_sizes",
]
