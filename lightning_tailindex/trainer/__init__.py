"""All that knows Lightning's insides: loaders, precision, strategies, ranks, and how to leave them alone."""

from .data import Batches, check_dataloader
from .extra_minibatches import ExtraMinibatches
from .fixed_minibatches import FixedMinibatches
from .hooks import note_on_hooks
from .iterates import IterateWatch, Window
from .lines import tell
from .optimizer import step_sizes
from .replicas import note_on_gradients, note_on_replicas
from .sampled_weights import IterateSettings, Replicas
from .sharpness import SharpnessSettings, SharpnessSource, check_sharpness
from .source import NoiseSettings, NoiseSource
from .stability import stability_limit
from .state import (
    check_alone,
    check_measurable,
    check_parameters,
    is_stepping,
    last_step,
    optimizer_steps,
    processes,
    steps_after_batch,
)
from .training_gradients import TrainingGradients
from .weights import check_weights, weights_of_checkpoint

__all__ = [
    "Batches",
    "ExtraMinibatches",
    "FixedMinibatches",
    "IterateSettings",
    "IterateWatch",
    "NoiseSettings",
    "NoiseSource",
    "Replicas",
    "SharpnessSettings",
    "SharpnessSource",
    "TrainingGradients",
    "Window",
    "check_alone",
    "check_dataloader",
    "check_measurable",
    "check_parameters",
    "check_sharpness",
    "check_weights",
    "is_stepping",
    "last_step",
    "note_on_gradients",
    "note_on_hooks",
    "note_on_replicas",
    "optimizer_steps",
    "processes",
    "stability_limit",
    "step_sizes",
    "steps_after_batch",
    "tell",
    "weights_of_checkpoint",
]
