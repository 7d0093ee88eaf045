"""What every estimator asks of its sample, and how it says what it left out."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral

import torch
from torch import Tensor

# The fewest values that a tail index and a scale are estimated from.
FEWEST_VALUES = 8


def checked_sample(name: str, x: Tensor) -> Tensor:
    """Returns the sample in float32 or better, detached, once it is known to be one."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} needs a tensor, got {type(x).__name__}.")
    if not x.is_floating_point():
        raise TypeError(f"{name} needs real floating point values, got {x.dtype}.")
    if x.layout != torch.strided:
        raise TypeError(f"{name} needs a dense tensor, got {x.layout}.")
    if x.ndim == 0 or len(x) == 0:
        raise ValueError(f"{name} needs at least one draw along dim 0, got shape {tuple(x.shape)}.")
    return x.detach().to(torch.float64 if x.dtype == torch.float64 else torch.float32)


def checked_count(function: str, least: int, **values: object) -> None:
    """Raises unless every value is a whole number of at least so many."""
    for name, value in values.items():
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"{function} needs a whole number {name} >= {least}, got {name}={value!r}.")


def screened(finite: Tensor, varies: Tensor, reasons: dict[str, Tensor]) -> tuple[Tensor, str]:
    """Which series no reason leaves out, and in words how many were left out; masks of shape [series]."""
    left_out = torch.stack([~finite, ~varies, *reasons.values()]).any(0)
    return ~left_out, left_out_notes(finite, varies, reasons, [len(finite)])[0]


def left_out_notes(finite: Tensor, varies: Tensor, reasons: dict[str, Tensor], sizes: Sequence[int]) -> list[str]:
    """Says in words how many series of each group were left out, each for the first reason that holds.

    The series of the groups lie one after the other; masks of shape [series].
    """
    ordered = {"NaN or infinite values": ~finite, "constant values": ~varies, **reasons}
    holds = torch.stack(list(ordered.values()))
    if not bool(holds.any()):
        return ["" if size else "there are no series" for size in sizes]
    first = torch.split(holds & (holds.int().cumsum(0) == 1), list(sizes), dim=1)
    counts = torch.stack([own.sum(1) for own in first]).tolist()
    return [_left_out(dict(zip(ordered, own, strict=True)), size) for own, size in zip(counts, sizes, strict=True)]


def _left_out(counts: dict[str, int], size: int) -> str:
    if not size:
        return "there are no series"
    return "; ".join(f"{count} of {size} series left out: {reason}" for reason, count in counts.items() if count)
