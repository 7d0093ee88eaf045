"""What every estimator asks of its sample, and how it says what it left out."""

from __future__ import annotations

import torch
from torch import Tensor

# The fewest values that a tail index and a scale are estimated from.
FEWEST_VALUES = 8


def checked_sample(name: str, x: Tensor) -> Tensor:
    """Returns the sample in float32 or better, detached, once it is known to be one."""
    if not x.is_floating_point():
        raise TypeError(f"{name} needs real floating point values, got {x.dtype}.")
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"{name} needs at least one draw along dim 0, got shape {tuple(x.shape)}.")
    return x.detach().to(torch.promote_types(x.dtype, torch.float32))


def left_out_note(finite: Tensor, varies: Tensor, reasons: dict[str, Tensor]) -> str:
    """Says in words how many series were left out, each for the first reason that holds; masks of shape [series]."""
    if len(finite) == 0:
        return "there are no series"
    ordered = {"NaN or infinite values": ~finite, "constant values": ~varies, **reasons}
    holds = torch.stack(list(ordered.values()))
    counts = (holds & (holds.int().cumsum(0) == 1)).sum(1).tolist()
    return "; ".join(
        f"{count} of {len(finite)} series left out: {reason}"
        for reason, count in zip(ordered, counts, strict=True)
        if count
    )
