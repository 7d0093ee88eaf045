"""How heavy are the tails of your gradient noise? Measured while you train with PyTorch Lightning."""

from .analysis import NamedEstimator
from .callbacks import (
    FirstExitMonitor,
    IterateTailIndexMonitor,
    SharpnessMonitor,
    TailIndexMonitor,
    WeightSpectrumMonitor,
)
from .metrics import TailIndex
from .noise import gradient_noise
from .records import (
    FirstExitReport,
    Histogram,
    IterateMeasurement,
    IterateReport,
    Measurement,
    Report,
    SharpnessReport,
    SpectrumReport,
    TailIndexEstimate,
)

__all__ = [
    "FirstExitMonitor",
    "FirstExitReport",
    "Histogram",
    "IterateMeasurement",
    "IterateReport",
    "IterateTailIndexMonitor",
    "Measurement",
    "NamedEstimator",
    "Report",
    "SharpnessMonitor",
    "SharpnessReport",
    "SpectrumReport",
    "TailIndex",
    "TailIndexEstimate",
    "TailIndexMonitor",
    "WeightSpectrumMonitor",
    "gradient_noise",
]
