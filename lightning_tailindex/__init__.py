"""How heavy are the tails of your gradient noise? Measured while you train with PyTorch Lightning."""

from .analysis import NamedEstimator
from .callbacks import FirstExitMonitor, TailIndexMonitor, WeightSpectrumMonitor
from .metrics import TailIndex
from .noise import gradient_noise
from .records import FirstExitReport, Histogram, Measurement, Report, SpectrumReport, TailIndexEstimate

__all__ = [
    "FirstExitMonitor",
    "FirstExitReport",
    "Histogram",
    "Measurement",
    "NamedEstimator",
    "Report",
    "SpectrumReport",
    "TailIndex",
    "TailIndexEstimate",
    "TailIndexMonitor",
    "WeightSpectrumMonitor",
    "gradient_noise",
]
