"""How heavy are the tails of your gradient noise? Measured while you train with PyTorch Lightning."""

from .analysis import NamedEstimator
from .callbacks import TailIndexMonitor
from .metrics import TailIndex
from .noise import gradient_noise
from .records import Histogram, Measurement, Report, TailIndexEstimate

__all__ = [
    "Histogram",
    "Measurement",
    "NamedEstimator",
    "Report",
    "TailIndex",
    "TailIndexEstimate",
    "TailIndexMonitor",
    "gradient_noise",
]
