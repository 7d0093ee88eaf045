"""Callbacks: thin shells that decide, observe, analyse and emit."""

from .first_exit import FirstExitMonitor
from .iterates import IterateTailIndexMonitor
from .sharpness import SharpnessMonitor
from .tail_index import TailIndexMonitor
from .weight_spectrum import WeightSpectrumMonitor

__all__ = [
    "FirstExitMonitor",
    "IterateTailIndexMonitor",
    "SharpnessMonitor",
    "TailIndexMonitor",
    "WeightSpectrumMonitor",
]
