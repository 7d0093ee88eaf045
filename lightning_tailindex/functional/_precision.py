"""The precision in which matrices are multiplied."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["for_products", "in_double"]


def _rounds_factors(device: torch.device) -> bool:
    """Whether products of single-precision matrices may be computed from factors rounded to 8 or 11 bits.

    That is what ``torch.set_float32_matmul_precision`` allows, which Lightning advises on a GPU, and what autocast
    does. A rounded log-probability is multiplied by a count: tail indices would be off by a few hundredths.
    """
    if torch.is_autocast_enabled(device.type):
        return True
    try:
        return torch.get_float32_matmul_precision() != "highest"
    except RuntimeError:  # it was set for single backends
        return True


def for_products(x: Tensor) -> Tensor:
    """Returns values of single precision in double precision where their products would not be of single precision."""
    if x.dtype != torch.float32 or x.device.type == "mps" or not _rounds_factors(x.device):  # MPS has no doubles
        return x
    return x.double()


def in_double(x: Tensor) -> Tensor:
    """Returns values in double precision, on the CPU where their device has none."""
    return (x.cpu() if x.device.type == "mps" else x).double()
