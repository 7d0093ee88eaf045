"""The weights themselves, in training: their matrices and the way that they go."""

from .matrices import SpectrumSettings, decomposition_cost, spectra, weight_matrices, without_exponent
from .path import WeightPath

__all__ = ["SpectrumSettings", "WeightPath", "decomposition_cost", "spectra", "weight_matrices", "without_exponent"]
