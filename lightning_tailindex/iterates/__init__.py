"""SGD's iterates as a stream: what is kept of a window of them, and when they have settled; knows no trainer."""

from __future__ import annotations

from .observation import GroupIterates, IterateObservation
from .recorder import IterateRecorder
from .repetitions import Repetitions
from .settling import Settling

__all__ = ["GroupIterates", "IterateObservation", "IterateRecorder", "Repetitions", "Settling"]
