"""Averages of several minibatches' noise: what larger minibatches would show, without another pass."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_tailindex import functional
from lightning_tailindex.functional.grouped_mle import counted_groups, pooled_alphas

from .estimators import Estimator

__all__ = ["FIELDS", "MOST_COORDINATES", "aggregated", "aggregated_alphas", "sizes", "thinned"]

FIELDS = ("alpha", "low", "high", "gaussian_alpha")
_FEWEST_DRAWS = 16
# Coordinates share their draws, so what many of them tell a few hundred tell too: more draws narrow an interval.
MOST_COORDINATES = 256


def sizes(num_draws: int) -> tuple[int, ...]:
    """Finds how many minibatches to average: 2, 4, 8 ... as long as 16 averages are left."""
    return tuple(2**k for k in range(1, 32) if num_draws // 2**k >= _FEWEST_DRAWS)


def thinned(noise: Tensor) -> Tensor:
    """Takes evenly spaced coordinates of draws ``[n, d]``, 256 at most, for numbers that stand beside the headline."""
    d = noise.shape[1]
    number = min(d, MOST_COORDINATES)
    chosen = torch.arange(number, device=noise.device) * d // max(number, 1)
    return noise if number == d else noise.index_select(1, chosen)  # in a fifth of the time that indexing takes


def aggregated(noise: Tensor, size: int) -> Tensor:
    """Averages consecutive draws.

    Args:
        noise: Draws ``[n, d]``, 0 where they are left out.
        size: Draws in an average.

    Returns:
        The averages ``[n // size, d]``; those of nothing but zeros are exact zeros.
    """
    number = len(noise) // size  # told, because no coordinates do not tell it
    return noise[: number * size].reshape(number, size, noise.shape[1]).mean(1)


def aggregated_alphas(estimator: Estimator, noises: Sequence[Tensor], surrogates: Sequence[Tensor]) -> list[Tensor]:
    """Estimates the tail indices of averages, from 256 coordinates of each group at most.

    Args:
        estimator: The estimator.
        noises: Draws of each group, ``[n, d]``.
        surrogates: Their Gaussian surrogates.

    Returns:
        For each group, the numbers of :data:`FIELDS` for each of :func:`sizes`, one after the other.
    """
    few = [thinned(draws) for draws in (*noises, *surrogates)]
    numbers = [_numbers(estimator, [aggregated(draws, size) for draws in few]) for size in sizes(len(few[0]))]
    return list(torch.cat(numbers, dim=1)) if numbers else [few[0].new_zeros(0)] * len(noises)


def _numbers(estimator: Estimator, averages: Sequence[Tensor]) -> Tensor:
    """The numbers of :data:`FIELDS` from averages of the noises and, behind them, of their surrogates, [groups, 4]."""
    number = len(averages) // 2
    if estimator is functional.grouped_mle:  # in a fraction of the time
        wanted = [True] * number + [False] * number
        alpha, low, high = pooled_alphas(counted_groups(averages), intervals=wanted)
    else:
        estimates = [estimator(draws, pooled=True) for draws in averages]
        alpha, low, high = (torch.stack([getattr(e, name) for e in estimates]) for name in ("alpha", "low", "high"))
    return torch.stack([alpha[:number], low[:number], high[:number], alpha[number:]], dim=1)
