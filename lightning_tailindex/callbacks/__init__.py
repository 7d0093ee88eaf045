"""Callbacks: thin shells that decide, observe, analyse and emit."""

from .tail_index import TailIndexMonitor

__all__ = ["TailIndexMonitor"]
