"""The largest eigenvalues of a symmetric matrix that is known by its products with vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, LinearOperator, eigsh
from torch import Tensor

from lightning_tailindex.records.notes import joined

__all__ = ["Eigenvalues", "largest_eigenvalues", "num_lanczos_vectors"]

Vector = np.ndarray[Any, np.dtype[Any]]

_MARGIN = 10
"""Eigenvalues whose residual is so many times the tolerance are told of; ARPACK's own bound is not exactly it."""


@dataclass(frozen=True)
class Eigenvalues:
    """The largest eigenvalues of a matrix.

    Attributes:
        values: The eigenvalues, the largest first; NaN at the end where some did not converge.
        residuals: Norm of Hv − λv over that of λv for each of them, NaN likewise; that of Hv where λ is 0.
        note: What a reader has to know of these numbers, in words; empty where nothing is special.
    """

    values: tuple[float, ...]
    residuals: tuple[float, ...]
    note: str = ""


def num_lanczos_vectors(count: int) -> int:
    """Counts the vectors that are kept for some eigenvalues.

    Args:
        count: Eigenvalues that are wanted.

    Returns:
        Twice as many and one more, but 20 at least.
    """
    return max(2 * count + 1, 20)


class _NotFiniteError(ArithmeticError):
    """A product has a value that is not finite."""


class _Operator:
    """The matrix as SciPy asks for it: from an array to an array, on the host."""

    def __init__(
        self, product: Callable[[Tensor], Tensor], size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._product, self._device, self._dtype = product, device, dtype
        self.array_type = np.dtype(np.float64 if dtype is torch.float64 else np.float32)
        self.shape = (size, size)
        self.is_zero = True

    def __call__(self, vector: Vector) -> Vector:
        flat = np.ascontiguousarray(vector.reshape(-1), dtype=self.array_type)
        # copied: ARPACK goes on writing into what it hands out
        product: Vector = self._product(torch.from_numpy(flat.copy()).to(self._device)).to("cpu", self._dtype).numpy()
        if not np.isfinite(product).all():
            raise _NotFiniteError
        self.is_zero &= not product.any()
        return product

    def dense(self) -> Vector:
        """The matrix itself, made symmetric."""
        columns = np.stack([self(column) for column in np.eye(self.shape[0], dtype=self.array_type)], axis=1)
        matrix: Vector = (columns + columns.T) / 2
        return matrix


def largest_eigenvalues(
    product: Callable[[Tensor], Tensor],
    size: int,
    count: int = 1,
    *,
    tolerance: float = 1e-3,
    max_products: int = 100,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Eigenvalues:
    r"""Finds the algebraically largest eigenvalues by Lanczos' method with implicit restarts, which is ARPACK's.

    An eigenvalue has converged once :math:`\|H v - \lambda v\| \leq` ``tolerance`` :math:`|\lambda|`; the matrix being
    symmetric, there is then one within that distance. Matrices of no more rows than Lanczos vectors are formed
    instead, column by column. One more product for each eigenvalue gives its residual.

    Memory on the host: ``(max(2 * count + 1, 20) + count + 6) * size`` numbers of ``dtype``, 108 bytes a row for one
    eigenvalue in single precision.

    Args:
        product: From a vector ``[size]`` to its product with the matrix, ``[size]``.
        size: Rows of the matrix, at least 1.
        count: Eigenvalues that are wanted, at least 1; those beyond ``size`` are NaN.
        tolerance: Relative accuracy, above 0.
        max_products: Products that may be computed, at least twice as many as there are Lanczos vectors.
        seed: Seed of the vector that is begun with, and of that alone.
        dtype: Type of the vectors, ``torch.float32`` or ``torch.float64``.
        device: Where the products are computed; None for the host.

    Returns:
        The eigenvalues with their residuals. NaN and a note where products are not finite or nothing converged.

    References:
        Lehoucq, Sorensen, Yang (1998). ARPACK Users' Guide. SIAM.

    Example:
        >>> import torch
        >>> diagonal = torch.linspace(0, 1, 100).pow(4)
        >>> found = largest_eigenvalues(lambda vector: diagonal * vector, 100)
        >>> f"{found.values[0]:.3f}", found.note
        ('1.000', '')
    """
    operator = _Operator(product, size, dtype, device or torch.device("cpu"))
    num_vectors = num_lanczos_vectors(count)
    try:
        if size <= num_vectors:
            values, vectors = np.linalg.eigh(operator.dense())
            values, vectors, note = values[-count:], vectors[:, -count:], ""
        else:
            values, vectors, note = _lanczos(operator, count, num_vectors, tolerance, max_products, seed)
        return _judged(operator, values, vectors, count, tolerance, note)
    except _NotFiniteError:
        return _none(count, "products of the Hessian with vectors are not finite")


def _none(count: int, note: str) -> Eigenvalues:
    return Eigenvalues((float("nan"),) * count, (float("nan"),) * count, note)


def _lanczos(
    operator: _Operator, count: int, num_vectors: int, tolerance: float, max_products: int, seed: int
) -> tuple[Vector, Vector, str]:
    start = np.random.default_rng(seed).standard_normal(operator.shape[0]).astype(operator.array_type)
    restarts = max(1, (max_products - num_vectors - 1 - count) // (num_vectors - count))
    matrix = LinearOperator(operator.shape, matvec=operator, dtype=operator.array_type)
    try:
        values, vectors = eigsh(matrix, count, which="LA", v0=start, ncv=num_vectors, maxiter=restarts, tol=tolerance)
        return values, vectors, ""
    except ArpackNoConvergence as error:
        found = len(error.eigenvalues)
        note = f"{found} of {count} eigenvalues converged within {max_products} products (max_products, tolerance)"
        return error.eigenvalues, error.eigenvectors, note
    except ArpackError as error:
        if operator.is_zero:  # every vector is an eigenvector of the matrix 0, and ARPACK finds no way on
            unit = np.eye(operator.shape[0], count, dtype=operator.array_type)
            return np.zeros(count, dtype=operator.array_type), unit, ""
        return np.empty(0), np.empty((operator.shape[0], 0)), f"no eigenvalue was found: {error}"


def _judged(
    operator: _Operator, values: Vector, vectors: Vector, count: int, tolerance: float, note: str
) -> Eigenvalues:
    order = np.argsort(-values)
    pairs = [(float(values[i]), vectors[:, i]) for i in order]
    residuals = [_residual(operator, value, vector) for value, vector in pairs]
    notes = [note]
    if operator.shape[0] < count:
        notes.append(f"there are {operator.shape[0]} parameters, and so no more eigenvalues")
    if any(residual > _MARGIN * tolerance for residual in residuals):
        notes.append(f"an eigenvalue's residual is {max(residuals):.2g} of it, far above the tolerance")
    missing = (float("nan"),) * (count - len(pairs))
    return Eigenvalues((*(value for value, _ in pairs), *missing), (*residuals, *missing), joined(*notes))


def _residual(operator: _Operator, value: float, vector: Vector) -> float:
    distance = float(np.linalg.norm(operator(vector) - value * vector))
    return distance / abs(value) if value else distance
