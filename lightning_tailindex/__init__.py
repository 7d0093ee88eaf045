"""How heavy are the tails of your gradient noise? Measured while you train with PyTorch Lightning."""

from .analysis import NamedEstimator
from .callbacks import SharpnessMonitor, TailIndexMonitor
from .metrics import TailIndex
from .noise import gradient_noise
from .records import Histogram, Measurement, Report, SharpnessReport, TailIndexEstimate

__all__ = [
    "Histogram",
    "Measurement",
    "NamedEstimator",
    "Report",
    "SharpnessMonitor",
    "SharpnessReport",
    "TailIndex",
    "TailIndexEstimate",
    "TailIndexMonitor",
    "gradient_noise",
]
