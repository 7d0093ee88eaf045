"""Gaussian noise with the covariance of given noise: what an estimator reads where tails are light."""

from __future__ import annotations

import torch
from torch import Tensor

from ._checks import checked_sample
from ._precision import for_products
from ._values import as_series

__all__ = ["gaussian_surrogate", "gaussian_surrogates"]


def gaussian_surrogate(noise: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""Draws Gaussian noise with the empirical covariance of the given noise.

    .. math::
        S = Z U_c / \sqrt{n}, \qquad Z \in \mathbb{R}^{n \times n} \text{ standard normal}

    The rows of :math:`U_c` are the draws minus their mean. Given the noise, the rows of :math:`S` are independent
    :math:`N(0, U_c^\top U_c / n)`: no d-by-d matrix is formed. An estimator that does not read 2 here misreads
    the dependence or the scales of the coordinates, not their tails.

    Args:
        noise: Draws along dim 0, shape ``[n, ...]``, n at least 1, in any unit.
        generator: Source of randomness on the device of ``noise``; None takes torch's default one.

    Returns:
        Gaussian noise of the shape, dtype and device of ``noise``; NaN in coordinates that have NaN or infinity.

    Raises:
        TypeError: If ``noise`` is no dense tensor of real floating point.
        ValueError: If ``noise`` has no dimension or no draws.

    References:
        Theiler, Eubank, Longtin, Galdrikian, Farmer, Testing for Nonlinearity in Time Series: the Method of
        Surrogate Data, Physica D 58, 1992, for the idea.

    Example:
        >>> noise = torch.tensor([[1.0, 2.0], [-1.0, -2.0], [3.0, 6.0]])
        >>> surrogate = gaussian_surrogate(noise, torch.Generator().manual_seed(0))
        >>> torch.allclose(surrogate[:, 1], 2 * surrogate[:, 0])
        True
    """
    return gaussian_surrogates(noise, 1, generator)[0]


def gaussian_surrogates(noise: Tensor, number: int, generator: torch.Generator | None = None) -> Tensor:
    """Draws several surrogates at once.

    Args:
        noise: As in :func:`gaussian_surrogate`.
        number: How many.
        generator: As in :func:`gaussian_surrogate`.

    Returns:
        What as many calls of :func:`gaussian_surrogate` return, shape ``[number, n, ...]``.
    """
    wide = as_series(checked_sample("gaussian_surrogate", noise))
    n, centred = len(wide), wide - wide.mean(0)
    normal = torch.randn(number * n, n, generator=generator, dtype=wide.dtype, device=wide.device)
    surrogates: Tensor = for_products(normal) @ for_products(centred) / n**0.5
    return surrogates.to(noise.dtype).reshape(number, *noise.shape)
