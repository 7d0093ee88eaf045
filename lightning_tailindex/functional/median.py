"""The centre of a sample: one of its own draws; and the quartiles beside it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

__all__ = ["NOISE_REACH", "NUM_NOISE_BINS", "nonzero_median", "quartiles", "sorted_rows", "standardized"]

NOISE_REACH, NUM_NOISE_BINS = 10.0, 80
"""Histograms of standardized values go from minus so far to so far, in so many bins."""


def nonzero_median(x: Tensor) -> Tensor:
    """Finds the lower median of each series' non-zero values, one of its draws.

    Subtracting one of the draws leaves an exact zero, which is then left out. The mean of the two middle draws would
    be pulled by both and bias alpha at small n. By sorting, because medians are not deterministic on a GPU.

    Args:
        x: Draws along dim 0, shape ``[n, ...]``; the other dimensions are independent series.

    Returns:
        The medians, shape ``[...]``; 0 for a series of zeros.

    Example:
        >>> nonzero_median(torch.tensor([[0.0, 4.0], [3.0, 1.0], [1.0, 2.0], [2.0, 3.0]]))
        tensor([2., 2.])
    """
    rows = x.reshape(len(x), -1).T.contiguous()
    return quartiles(rows)[1].reshape(x.shape[1:])


def quartiles(rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Finds the lower quartile, the lower median and the upper quartile of the non-zero values of each row.

    Args:
        rows: Values, shape ``[rows, n]``, n at least 1; NaN counts as larger than every number.

    Returns:
        The three, each of shape ``[rows]`` and each one of the values; 0 for a row of zeros.

    Example:
        >>> quartiles(torch.tensor([[5.0, 0.0, 1.0, 4.0, 3.0, 0.0, 2.0]]))
        (tensor([2.]), tensor([3.]), tensor([4.]))
    """
    n = rows.shape[1]
    if not has_zeros(rows):
        ordered = sorted_rows(rows)
        return ordered[:, n // 4], ordered[:, (n - 1) // 2], ordered[:, n - 1 - n // 4]
    present = rows.bool()  # in a fraction of the time that comparing takes
    ordered, count = sorted_rows(torch.where(present, rows, torch.inf)), present.sum(1, dtype=torch.int32)
    places = torch.stack([count // 4, (count - 1) // 2, count - 1 - count // 4], dim=1).clamp_(min=0).long()
    first, middle, third = torch.where(count[:, None] > 0, ordered.gather(1, places), 0.0).unbind(1)
    return first, middle, third


def has_zeros(values: Tensor) -> bool:
    """Whether any value is 0, in a fifth of the time that comparing and ``any`` take."""
    return values.numel() > 0 and not bool(values.bool().view(torch.uint8).amin())


def sorted_rows(rows: Tensor) -> Tensor:
    """Sorts each row ascending; on a CPU by numpy, which sorts plain numbers ten times faster."""
    if rows.device.type == "cpu" and rows.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(np.sort(rows.numpy(), axis=1))
    return rows.sort(1).values


def standardized(x: Tensor, middle: Tensor, scale: Tensor) -> Tensor:
    """Centres each series by a draw in its middle and divides it by its scale.

    Args:
        x: Draws ``[n, series]``.
        middle: What :func:`nonzero_median` finds for each series, ``[series]``.
        scale: The scale of each series, ``[series]``.

    Returns:
        The same shape as ``x``; NaN for zeros, and for the draw that is the centre and tells nothing.
    """
    centred = x - middle
    return torch.where((x == 0) | (centred == 0), torch.nan, centred) / scale
