"""The curvature of a loss, known by products of its Hessian with vectors; nothing here knows of a trainer."""

from .eigenvalues import Eigenvalues, largest_eigenvalues, num_lanczos_vectors
from .hessian import Hessian, WeightedLoss
from .restoring import Restored
from .trace import Trace, hutchinson_trace

__all__ = [
    "Eigenvalues",
    "Hessian",
    "Restored",
    "Trace",
    "WeightedLoss",
    "hutchinson_trace",
    "largest_eigenvalues",
    "num_lanczos_vectors",
]
