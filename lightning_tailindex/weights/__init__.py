"""The weights themselves, in training: their matrices and the way that they go."""

from .lazy import lazy_parameters, shaped_parameters
from .listing import WeightMatrix, weight_matrices
from .matrices import SpectrumSettings, decomposition_cost, spectra, without_exponent
from .path import Unseen, WeightPath

__all__ = [
    "SpectrumSettings",
    "Unseen",
    "WeightMatrix",
    "WeightPath",
    "decomposition_cost",
    "lazy_parameters",
    "shaped_parameters",
    "spectra",
    "weight_matrices",
    "without_exponent",
]
