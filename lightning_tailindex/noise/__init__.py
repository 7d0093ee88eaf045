"""A module, a loss and minibatches to gradient noise; nothing here knows of a trainer."""

from .gradient_noise import gradient_noise

__all__ = ["gradient_noise"]
