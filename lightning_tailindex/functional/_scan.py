"""Cumulative sums that torch allows wherever it is told to be deterministic."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["cumulative_sum"]


def cumulative_sum(x: Tensor) -> Tensor:
    """Sums floating point values up along dim 0.

    On a GPU, ``torch.use_deterministic_algorithms`` refuses ``torch.cumsum`` of such values (so its documentation up to
    torch 2.13), and with ``Trainer(deterministic=True)`` no measurement would come about.
    """
    return _by_doubling(x) if _is_refused(x.device.type) else x.cumsum(0)


def _is_refused(device_type: str) -> bool:
    return device_type == "cuda" and torch.are_deterministic_algorithms_enabled()


def _by_doubling(x: Tensor) -> Tensor:
    """Adds sums of 1, 2, 4, 8 ... values to those behind them."""
    reach = 1
    while reach < len(x):
        x = torch.cat([x[:reach], x[reach:] + x[:-reach]])
        reach *= 2
    return x
