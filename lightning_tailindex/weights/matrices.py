"""The spectra of a module's weight matrices."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from lightning_tailindex.functional import weight_spectrum
from lightning_tailindex.functional.weight_spectrum import Convolutions
from lightning_tailindex.noise.groups import measured_parameters
from lightning_tailindex.noise.processes import Processes
from lightning_tailindex.noise.sharded import is_sharded
from lightning_tailindex.records import SpectrumMeasurement

__all__ = ["SpectrumSettings", "decomposition_cost", "spectra", "weight_matrices", "without_exponent"]

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


def weight_matrices(module: nn.Module, patterns: Iterable[re.Pattern[str]] = ()) -> dict[str, nn.Parameter]:
    """Lists the trainable parameters that are matrices: of two dimensions, or kernels of convolutions.

    Other parameters of more dimensions, such as embeddings of positions, are no matrices. The packed projection of an
    attention, ``in_proj_weight``, is one matrix ``[3 embed, embed]``.

    Args:
        module: The module.
        patterns: Expressions, one of which has to be found in a parameter's name; none for every matrix.

    Returns:
        The parameters by name, in the order of the module.

    Raises:
        ValueError: If there are none.
    """
    kernels = {id(part.weight) for part in module.modules() if isinstance(part, _ConvNd)}
    parameters = measured_parameters(module, patterns)
    found = {name: p for name, p in parameters.items() if p.ndim == 2 or (p.ndim > 2 and id(p) in kernels)}
    if not found:
        raise ValueError(
            f"{type(module).__name__} has no weight matrices among its trainable parameters {list(parameters)[:8]}."
        )
    return found


def decomposition_cost(matrices: Mapping[str, Tensor], settings: SpectrumSettings) -> float:
    """Estimates the floating point operations of the singular values, 4 N M² - 4 M³ / 3 of each matrix.

    Args:
        matrices: The parameters by name.
        settings: Which matrix a kernel is, and which are decomposed.

    Returns:
        Their sum.
    """
    total = 0.0
    for weight in matrices.values():
        rows, positions = len(weight), weight[:1, :1].numel()
        columns, count = weight[:1].numel(), 1
        if settings.convolutions == "slices":
            columns, count = columns // max(positions, 1), positions
        small, large = sorted((rows, columns))
        if settings.max_dim is None or small <= settings.max_dim:
            total += count * (4 * large * small**2 - 4 * small**3 / 3)
    return total


def spectra(
    matrices: Mapping[str, Tensor], settings: SpectrumSettings, processes: Processes
) -> tuple[SpectrumMeasurement, ...]:
    """Measures weight matrices; of sharded ones, one at a time is whole.

    Args:
        matrices: The parameters by name, the same in every process.
        settings: How they are measured.
        processes: The processes that train together.

    Returns:
        What was found of each matrix.

    Raises:
        Exception: What went wrong in this process.
        OtherProcessError: If another process failed.
    """
    found, failure = [], None
    for name, weight in matrices.items():
        whole = _whole(weight)  # waits for the other processes, so what fails in one of them may not end this loop
        try:
            found.append(_spectrum(name, whole, settings))
        except Exception as error:
            failure = failure or error
    processes.agree(failure, 0)
    return tuple(found)


def _whole(weight: Tensor) -> Tensor:
    """The numbers of a parameter, gathered where processes have shards of it: all processes ask in the same order."""
    own = weight.detach()
    return own.full_tensor() if is_sharded(own) else own  # type: ignore[attr-defined]


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
    several = list(found)
    reasons = {
        "too large to be decomposed (max_dim)": [m.matrix for m in several if m.note.startswith("not decomposed")],
        f"fewer than {min_tail} eigenvalues": [m.matrix for m in several if m.num_eigenvalues < min_tail],
        "NaN or infinite weights": [m.matrix for m in several if m.note.startswith("NaN")],
    }
    parts = (
        f"{len(names)} of {len(several)} matrices have no density exponent: {reason} ({_listed(names)})"
        for reason, names in reasons.items()
        if names
    )
    return "; ".join(parts)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", …" if len(names) > _NAMED else "")
