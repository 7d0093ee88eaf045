"""The trace of a matrix that is known by its products with vectors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Trace", "hutchinson_trace"]


@dataclass(frozen=True)
class Trace:
    """An estimate of a trace.

    Attributes:
        value: The estimate.
        error: Its standard error; NaN where there was one random vector.
        note: What a reader has to know of it, in words; empty where nothing is special.
    """

    value: float
    error: float
    note: str = ""


def hutchinson_trace(
    product: Callable[[Tensor], Tensor],
    size: int,
    num_samples: int,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> Trace:
    r"""Estimates a trace by Hutchinson's method, with random signs.

    .. math:: \operatorname{tr} H \approx \frac{1}{m} \sum_{i=1}^m z_i^\top H z_i, \qquad z_{ij} = \pm 1

    It has no bias, and is exact if the matrix is diagonal: its variance is that of what stands off the diagonal,
    :math:`\frac{2}{m} \sum_{i \neq j} H_{ij}^2`. The same seed gives the same signs, so that differences between two
    matrices are not by the draw.

    Args:
        product: From a vector ``[size]`` to its product with the matrix, ``[size]``.
        size: Rows of the matrix, at least 1.
        num_samples: Random vectors m, at least 1; the standard error needs 2.
        seed: Seed of the signs.
        dtype: Type of the vectors.
        device: Where the products are computed; None for the host.

    Returns:
        The estimate; NaN and a note where products are not finite.

    References:
        Hutchinson (1990). A Stochastic Estimator of the Trace of the Influence Matrix for Laplacian Smoothing Splines.
        Communications in Statistics, 19(2).

    Example:
        >>> import torch
        >>> hutchinson_trace(lambda vector: torch.tensor([1.0, 2.0, 4.0]) * vector, 3, 2)
        Trace(value=7.0, error=0.0, note='')
    """
    generator = torch.Generator().manual_seed(seed)  # on the host: the same signs on every device
    values = []
    for _ in range(num_samples):
        signs = 2 * torch.randint(2, (size,), generator=generator, device="cpu") - 1
        answer = product(signs.to(device or "cpu", dtype)).detach()
        # added on the host: Apple's GPUs have no double precision
        values.append((signs.double() @ answer.cpu().double()).item())
    samples = torch.tensor(values, dtype=torch.float64, device="cpu")
    if not samples.isfinite().all():
        return Trace(math.nan, math.nan, "products of the Hessian with random vectors are not finite")
    error = samples.std().item() / math.sqrt(num_samples) if num_samples > 1 else math.nan
    return Trace(samples.mean().item(), error)
