"""The spectra of a module's weight matrices."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor

from lightning_tailindex.functional import weight_spectrum
from lightning_tailindex.functional.weight_spectrum import FEWEST_EIGENVALUES, NOT_DECOMPOSED, NOT_FINITE, Convolutions
from lightning_tailindex.noise.processes import Processes
from lightning_tailindex.records import SpectrumMeasurement
from lightning_tailindex.records.notes import joined

from .listing import WeightMatrix

__all__ = ["SpectrumSettings", "decomposition_cost", "spectra", "without_exponent"]

_NAMED = 3


@dataclass(frozen=True)
class SpectrumSettings:
    """How weight matrices are measured.

    Attributes:
        patterns: Expressions, one of which has to be found in a parameter's name; none for every matrix.
        convolutions: Which matrix a kernel of a convolution is.
        normalize: Whether eigenvalues are divided by the larger dimension.
        min_tail: Eigenvalues that a tail must have.
        max_dim: The largest smaller dimension that is decomposed; None for any.
    """

    patterns: tuple[re.Pattern[str], ...]
    convolutions: Convolutions
    normalize: bool
    min_tail: int
    max_dim: int | None


def decomposition_cost(matrices: Mapping[str, WeightMatrix], settings: SpectrumSettings) -> float:
    """Estimates the floating point operations of the singular values, 4 N M² - 4 M³ / 3 of each matrix.

    Args:
        matrices: The matrices by name.
        settings: Which matrix a kernel is, and which are decomposed.

    Returns:
        Their sum.
    """
    total = 0.0
    for matrix in matrices.values():
        rows, *others = matrix.shape
        columns, count = math.prod(others), 1
        if settings.convolutions == "slices":
            columns, count = math.prod(others[:1]), math.prod(others[1:])
        small, large = sorted((rows, columns))
        if settings.max_dim is None or small <= settings.max_dim:
            total += count * (4 * large * small**2 - 4 * small**3 / 3)
    return total


def spectra(
    matrices: Mapping[str, WeightMatrix], settings: SpectrumSettings, processes: Processes
) -> tuple[SpectrumMeasurement, ...]:
    """Measures weight matrices; of sharded ones, one at a time is whole.

    Args:
        matrices: The matrices by name, the same in every process.
        settings: How they are measured.
        processes: The processes that train together.

    Returns:
        What was found of each matrix.

    Raises:
        Exception: What went wrong in this process.
        OtherProcessError: If another process failed.
    """
    found, failure = [], None
    for name, matrix in matrices.items():
        sources = matrix.gather()  # waits for the other processes, so what fails in one of them may not end this loop
        try:
            found.append(_spectrum(name, matrix.compute(sources), settings))
        except Exception as error:
            failure = failure or error
    processes.agree(failure, 0)
    return tuple(found)


def _spectrum(name: str, weight: Tensor, settings: SpectrumSettings) -> SpectrumMeasurement:
    return weight_spectrum(
        weight,
        name=name,
        convolutions=settings.convolutions,
        normalize=settings.normalize,
        min_tail=settings.min_tail,
        max_dim=settings.max_dim,
    )


def without_exponent(found: Iterable[SpectrumMeasurement], min_tail: int) -> str:
    """Says which matrices can have no density exponent, whatever their weights are.

    Args:
        found: What was found of each matrix.
        min_tail: Eigenvalues that a tail must have.

    Returns:
        A sentence; empty if there are none.
    """
    several, fewest = list(found), max(min_tail, FEWEST_EIGENVALUES)
    reasons = {
        "too large to be decomposed (max_dim)": [m.matrix for m in several if m.note.startswith(NOT_DECOMPOSED)],
        f"fewer than {fewest} eigenvalues": [m.matrix for m in several if m.num_eigenvalues < fewest],
        NOT_FINITE: [m.matrix for m in several if m.note.startswith(NOT_FINITE)],
    }
    parts = (
        f"{len(names)} of {len(several)} matrices can have no density exponent: {reason} ({_listed(names)})"
        for reason, names in reasons.items()
        if names
    )
    return joined(*parts)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
