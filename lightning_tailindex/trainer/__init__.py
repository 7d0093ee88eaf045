"""All that knows Lightning's insides: loaders, precision, strategies, ranks, and how to leave them alone."""

from .data import Batches, check_dataloader
from .extra_minibatches import ExtraMinibatches
from .iterates import IterateSettings, IterateWatch, Replicas
from .source import NoiseSettings, NoiseSource
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
from .weights import check_weights, settle_shards, weights_of_checkpoint

__all__ = [
    "Batches",
    "ExtraMinibatches",
    "IterateSettings",
    "IterateWatch",
    "NoiseSettings",
    "NoiseSource",
    "Replicas",
    "TrainingGradients",
    "check_alone",
    "check_dataloader",
    "check_measurable",
    "check_parameters",
    "check_weights",
    "is_stepping",
    "last_step",
    "optimizer_steps",
    "processes",
    "settle_shards",
    "steps_after_batch",
    "weights_of_checkpoint",
]
