"""Callbacks: thin shells that decide, observe, analyse and emit."""

from .sharpness import SharpnessMonitor
from .tail_index import TailIndexMonitor

__all__ = ["SharpnessMonitor", "TailIndexMonitor"]
