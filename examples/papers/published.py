"""The published arrangement of the estimator: neighbouring coordinates of one minibatch, summed as if independent."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lightning_tailindex import TailIndexEstimate
from lightning_tailindex.functional import group_sum
from lightning_tailindex.functional.surrogate import gaussian_surrogate

__all__ = ["Pooled"]

_SEED = 0  # of the surrogate


class Pooled:
    """Estimates one tail index of all numbers of the noise, flattened minibatch by minibatch.

    So does the code of Şimşekli, Sagun and Gürbüzbalaban (2019), with groups of the largest divisor up to the square
    root. Two things are left out: the eps inside its logarithm, since exact zeros are not counted here, and its stop
    where all training images are classified correctly. It has to see every coordinate in its place: ``max_coordinates``
    has to be as large as the net, or what is summed are no neighbours.

    Args:
        surrogate: Whether the noise is replaced by Gaussian noise of the same covariance, every coordinate in its
            place too. The number that this package logs beside each estimate is of 256 coordinates, which is not the
            published arrangement.

    Example:
        >>> noise = torch.randn(64, 400, generator=torch.Generator().manual_seed(0))
        >>> Pooled().__name__, Pooled(surrogate=True).__name__
        ('published', 'published_surrogate')
        >>> 1.8 < Pooled()(noise, pooled=True).alpha < 2.3  # independent, and of one scale
        tensor(True)
        >>> Pooled()(noise * torch.linspace(-4, 4, 400).exp(), pooled=True).alpha < 1.6  # of many scales
        tensor(True)
    """

    def __init__(self, surrogate: bool = False) -> None:
        self._surrogate = surrogate
        self.__name__ = "published_surrogate" if surrogate else "published"

    def __call__(self, x: Tensor, *, pooled: bool = False) -> TailIndexEstimate:
        """Estimates from draws ``[n, d]``; of each coordinate by itself there is nothing to flatten."""
        if self._surrogate:
            x = gaussian_surrogate(x, torch.Generator(x.device).manual_seed(_SEED))
        if not pooled:
            return group_sum(x)
        estimate = group_sum(x.flatten())
        return replace(estimate, scale=estimate.scale.expand(x.shape[1:]))
