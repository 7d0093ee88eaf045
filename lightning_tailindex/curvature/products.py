"""A symmetric matrix that is known by its products, as SciPy asks for it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

__all__ = ["NotFiniteError", "Operator", "Vector"]

Vector = np.ndarray[Any, np.dtype[Any]]


class NotFiniteError(ArithmeticError):
    """A product has a value that is not finite."""


class Operator:
    """The matrix as SciPy asks for it: from an array to an array, on the host.

    Attributes:
        unit: A power of two that the first product is about as large as: products are told in it, because ARPACK has an
            absolute tolerance beside the relative one.
        largest: The most that a product was longer than its vector so far, in that unit.
        num_products: Products so far.
    """

    def __init__(
        self, product: Callable[[Tensor], Tensor], size: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        self._product, self._device, self._dtype = product, device, dtype
        self.array_type = np.dtype(np.float64 if dtype is torch.float64 else np.float32)
        self.shape = (size, size)
        self.unit, self.largest, self.num_products = 1.0, 0.0, 0

    def __call__(self, vector: Vector) -> Vector:
        """Returns the product with a vector; NotFiniteError where it has a value that is not finite."""
        flat = np.ascontiguousarray(vector.reshape(-1), dtype=self.array_type)
        product = self._raw(flat)
        if self.largest == 0 and product.any():
            self.unit = _power_of_two(np.abs(product).max() / np.abs(flat).max())
        product = self._in_unit(product)
        self.largest = max(self.largest, float(np.linalg.norm(product) / (np.linalg.norm(flat) or 1)))
        return product

    def dense(self) -> Vector:
        """The matrix itself, made symmetric."""
        columns = np.stack([self._raw(column) for column in np.eye(self.shape[0], dtype=self.array_type)], axis=1)
        if columns.any():
            self.unit = _power_of_two(np.abs(columns).max())
        columns = self._in_unit(columns)
        self.largest = float(np.linalg.norm(columns, axis=0).max())
        return (columns + columns.T) / 2  # type: ignore[no-any-return]

    def _raw(self, flat: Vector) -> Vector:
        # copied: ARPACK goes on writing into what it hands out
        product = self._product(torch.from_numpy(flat.copy()).to(self._device))
        self.num_products += 1
        return _checked(product.detach().to("cpu", self._dtype).numpy())

    def _in_unit(self, products: Vector) -> Vector:
        return _checked(products / self.array_type.type(self.unit))


def _checked(products: Vector) -> Vector:
    if not np.isfinite(products).all():
        raise NotFiniteError
    return products


def _power_of_two(size: float) -> float:
    """One that is near, and that single precision has."""
    return math.ldexp(1.0, min(max(math.frexp(float(size))[1], -126), 126))
