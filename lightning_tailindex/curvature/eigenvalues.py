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

from .products import NotFiniteError, Operator, Vector

__all__ = ["Eigenvalues", "largest_eigenvalues", "num_lanczos_vectors"]

_MARGIN = 10
"""Eigenvalues whose residual is so many times the tolerance are told of; ARPACK's own bound is not exactly it."""

_FEW_VECTORS = 10
"""Lanczos vectors that one eigenvalue is looked for with behind others: half as many products as with 20."""


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

    From one vector to begin with, the method finds every eigenvalue once, however often the matrix has it. So where
    several are wanted, the largest one apart from those that were found is looked for, with 11 products or more, until
    it is none of the wanted; it takes the place of the smallest where it is larger.

    Memory on the host: ``(max(2 * count + 1, 20) + 2 * count + 8) * size`` numbers of ``dtype``, but 27 a row for one
    eigenvalue.

    Args:
        product: From a vector ``[size]`` to its product with the matrix, ``[size]``.
        size: Rows of the matrix, at least 1.
        count: Eigenvalues that are wanted, at least 1; those beyond ``size`` are NaN.
        tolerance: Relative accuracy, above 0.
        max_products: Products that may be computed, more than twice as many as there are Lanczos vectors.
        seed: Seed of the vector that is begun with, and of that alone.
        dtype: Type of the vectors, ``torch.float32`` or ``torch.float64``.
        device: Where the products are computed; None for the host.

    Returns:
        The eigenvalues that converged, the largest first, with their residuals; behind them NaN and a note for those
        that did not, which may be larger. All are NaN where products are not finite.

    References:
        Lehoucq, Sorensen, Yang (1998). ARPACK Users' Guide. SIAM.

    Example:
        >>> import torch
        >>> diagonal = torch.linspace(0, 1, 100).pow(4)
        >>> found = largest_eigenvalues(lambda vector: diagonal * vector, 100)
        >>> f"{found.values[0]:.3f}", found.note
        ('1.000', '')
    """
    operator = Operator(product, size, dtype, device or torch.device("cpu"))
    try:
        if size <= num_lanczos_vectors(count):
            values, vectors = np.linalg.eigh(operator.dense())
            values, vectors, note = values[-count:], vectors[:, -count:], ""
        else:
            values, vectors, note = _lanczos(operator, count, tolerance, max_products, seed)
        return _judged(operator, values, vectors, count, tolerance, note)
    except NotFiniteError:
        return _none(count, "products of the Hessian with vectors are not finite")


def _none(count: int, note: str) -> Eigenvalues:
    return Eigenvalues((float("nan"),) * count, (float("nan"),) * count, note)


def _lanczos(
    operator: Operator, count: int, tolerance: float, max_products: int, seed: int
) -> tuple[Vector, Vector, str]:
    rng = np.random.default_rng(seed)
    search = _Search(operator, tolerance, max_products - count, rng)
    try:
        values, vectors = search(operator, count, num_lanczos_vectors(count))
    except ArpackNoConvergence as error:
        found = len(error.eigenvalues)
        note = f"{found} of {count} eigenvalues converged within {max_products} products (max_products, tolerance)"
        more = "; others may be larger, and copies of repeated ones were not looked for" if found else ""
        return error.eigenvalues, error.eigenvectors, note + more
    except ArpackError as error:
        if operator.largest == 0:  # every vector is an eigenvector of the matrix 0, and ARPACK finds no way on
            unit = np.eye(operator.shape[0], count, dtype=operator.array_type)
            return np.zeros(count, dtype=operator.array_type), unit, ""
        return np.empty(0), np.empty((operator.shape[0], 0)), f"no eigenvalue was found: {error}"
    is_whole = count == 1 or _put_in_copies(search, values, vectors)
    note = f"{max_products} products were too few to look for copies of repeated eigenvalues (max_products)"
    return values, vectors, "" if is_whole else note


@dataclass(frozen=True)
class _Search:
    """Lanczos' method on the matrix or on what is derived from it, as long as products are left.

    Attributes:
        operator: The matrix.
        tolerance: Relative accuracy.
        max_products: Products of the matrix that may be computed in all.
        rng: Where vectors to begin with come from.
    """

    operator: Operator
    tolerance: float
    max_products: int
    rng: np.random.Generator

    def __call__(self, product: Callable[[Vector], Vector], count: int, num_vectors: int) -> tuple[Vector, Vector]:
        """The largest eigenvalues, and their vectors; ArpackError where they are not found."""
        start = self.rng.standard_normal(self.operator.shape[0]).astype(self.operator.array_type)
        left = self.max_products - self.operator.num_products
        # of one, ARPACK keeps half of the vectors, but not where it has found others exactly, as among copies
        keeps_half = count == 1 and num_vectors > _FEW_VECTORS
        renewed = num_vectors // 2 if keeps_half else num_vectors - count
        restarts = max(1, (left - num_vectors - 1) // renewed)
        matrix = LinearOperator(self.operator.shape, matvec=product, dtype=self.operator.array_type)
        options = {"v0": start, "ncv": num_vectors, "maxiter": restarts, "tol": self.tolerance}
        found: tuple[Vector, Vector] = eigsh(matrix, count, which="LA", **options)
        return found


def _put_in_copies(search: _Search, values: Vector, vectors: Vector) -> bool:
    """Puts larger eigenvalues in the place of the smallest; whether it is known that there are no more of them."""
    while search.max_products - search.operator.num_products >= 2 * _FEW_VECTORS:
        try:
            value, vector = search(_deflated(search.operator, values, vectors), 1, _FEW_VECTORS)
        except ArpackError:
            return False
        smallest = values.argmin()
        margin = max(search.tolerance * abs(values[smallest]), _rounding(search.operator))
        if value[0] <= values[smallest] + margin:
            return True
        values[smallest], vectors[:, smallest] = value[0], vector[:, 0]
    return False


def _deflated(operator: Operator, values: Vector, vectors: Vector) -> Callable[[Vector], Vector]:
    """The matrix with other eigenvalues for some eigenvectors, which are smaller than all of theirs."""
    below = values.min() - np.abs(values).max()

    def product(vector: Vector) -> Any:
        along = vectors.T @ vector
        rest = operator(vector - vectors @ along)
        return rest + vectors @ (below * along - vectors.T @ rest)

    return product


def _judged(
    operator: Operator, values: Vector, vectors: Vector, count: int, tolerance: float, note: str
) -> Eigenvalues:
    order = np.argsort(-values)
    pairs = [(float(values[i]), vectors[:, i]) for i in order]
    gaps = [float(np.linalg.norm(operator(vector) - value * vector)) for value, vector in pairs]
    residuals = [
        gap / abs(value) if value else gap * operator.unit for gap, (value, _) in zip(gaps, pairs, strict=True)
    ]
    notes = [note]
    if operator.shape[0] < count:
        notes.append(f"there are {operator.shape[0]} parameters, and so no more eigenvalues")
    # what is left of an eigenvalue near 0 is the products' rounding
    allowed = [max(tolerance * abs(value), _rounding(operator)) for value, _ in pairs]
    judged = zip(residuals, gaps, allowed, strict=True)
    far = [residual for residual, gap, most in judged if gap > _MARGIN * most]
    if far:
        notes.append(f"an eigenvalue's residual is {max(far):.2g} of it, far above the tolerance")
    missing = (float("nan"),) * (count - len(pairs))
    found = (value * operator.unit for value, _ in pairs)
    return Eigenvalues((*found, *missing), (*residuals, *missing), joined(*notes))


def _rounding(operator: Operator) -> float:
    """About how far products with the matrix are from what they would be without rounding."""
    return float(np.finfo(operator.array_type).eps * operator.shape[0] ** 0.5 * operator.largest)
