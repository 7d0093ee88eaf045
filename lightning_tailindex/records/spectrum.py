"""What a measurement says of a model's weight matrices."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from statistics import median

from .measurements import Histogram

__all__ = ["SpectrumMeasurement", "SpectrumReport"]


@dataclass(frozen=True)
class SpectrumMeasurement:
    """The eigenvalues of WᵀW of one weight matrix W, which are its squared singular values, and their power law.

    The density exponent is what WeightWatcher and powerlaw call alpha: p(λ) ~ λ^-exponent above ``x_min``. It is no
    tail index of gradient noise.

    Attributes:
        matrix: Name of the weight.
        shape: Shape of the weight, its first dimension that of outputs, of transposed convolutions too.
        num_eigenvalues: Eigenvalues that the matrix has, zeros included: its smaller dimension, for each slice.
        rank: Eigenvalues above rounding; the others are taken for zeros.
        density_exponent: Exponent of the power law of the eigenvalues' density; NaN where there is none.
        standard_error: Its standard error, (exponent - 1) / √(eigenvalues in the tail), as if they were independent.
        x_min: Eigenvalue from which on the power law was fitted.
        num_tail: Eigenvalues in the tail, which are those of at least ``x_min``.
        kolmogorov_distance: Largest distance of the tail's distribution function from the power law's, in [0, 1].
        weighted_exponent: Density exponent × log10 of the largest eigenvalue.
        largest_eigenvalue: The largest eigenvalue.
        spectral_norm: The largest singular value of the matrix, or of its slices, never divided by anything.
        stable_rank: Sum of the eigenvalues over the largest, ‖W‖²_F / ‖W‖²₂: from 1 to the rank.
        log_norm: log10 of the sum of the eigenvalues.
        entropy: Entropy of the eigenvalues' shares of their sum over the logarithm of the rank, in [0, 1].
        note: What a reader has to know of these numbers, in words; empty where nothing is special.
        log_eigenvalues: Histogram of log10 of the eigenvalues above rounding.
    """

    matrix: str
    shape: tuple[int, ...]
    num_eigenvalues: int
    rank: int
    density_exponent: float
    standard_error: float
    x_min: float
    num_tail: int
    kolmogorov_distance: float
    weighted_exponent: float
    largest_eigenvalue: float
    spectral_norm: float
    stable_rank: float
    log_norm: float
    entropy: float
    note: str
    log_eigenvalues: Histogram = field(repr=False)

    @property
    def size(self) -> int:
        """Numbers in the matrix."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class SpectrumReport:
    """The spectra of all measured weight matrices at one step.

    Attributes:
        step: Optimizer steps taken before it.
        matrices: What was found of each matrix, in the order of the module.
        seconds: Wall time that measuring took.
        note: What holds of several matrices, in words; empty where nothing is special.
    """

    step: int
    matrices: tuple[SpectrumMeasurement, ...]
    seconds: float
    note: str = ""

    @property
    def median_density_exponent(self) -> float:
        """Median of the density exponents of the matrices that have one; NaN where none has."""
        found = [m.density_exponent for m in self.matrices if not math.isnan(m.density_exponent)]
        return median(found) if found else math.nan
