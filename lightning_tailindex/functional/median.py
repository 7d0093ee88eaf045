"""The centre of a sample: one of its own draws."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["nonzero_median"]


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
    present = x != 0
    count = present.sum(0)
    ordered = torch.where(present, x, torch.inf).sort(0).values
    median = ordered.gather(0, ((count - 1) // 2).clamp(min=0)[None])[0]
    return torch.where(count > 0, median, 0.0)
