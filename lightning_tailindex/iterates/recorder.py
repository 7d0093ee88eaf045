"""A window of iterates in memory that does not grow with the window."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["MOST_SNAPSHOTS", "IterateRecorder", "wide"]

MOST_SNAPSHOTS = 256
"""Iterates that are kept as they are; neighbouring ones say nearly the same."""


def wide(device: torch.device) -> torch.dtype:
    """Returns the widest type that a device adds in; Apple's GPUs have no double precision."""
    return torch.float32 if device.type == "mps" else torch.float64


class IterateRecorder:
    """Keeps the mean of a window of iterates and evenly spaced snapshots of them, whatever the window's length.

    The sum is of differences from the first iterate, in double precision: within a window weights move little, and the
    mean of long sums of whole weights would be rounding.

    Args:
        window: Iterates in the window, at least 1.
        like: A row of the shape ``[d]``, dtype and device of those to come.
        most: Snapshots at most, at least 1.

    Attributes:
        window: Iterates in the window.
        stride: Steps from one snapshot to the next.
        count: Iterates seen.
        snapshots: The iterates that are kept, ``[window // stride, d]``; rows not reached yet are 0.

    Example:
        >>> recorder = IterateRecorder(4, torch.zeros(1), most=2)
        >>> for value in (1.0, 2.0, 3.0, 6.0):
        ...     recorder.record(torch.tensor([value]))
        >>> recorder.mean.item(), recorder.snapshots.flatten().tolist()
        (3.0, [2.0, 6.0])
    """

    def __init__(self, window: int, like: Tensor, most: int = MOST_SNAPSHOTS) -> None:
        self.window = window
        self.stride = -(-window // most)
        self.count = 0
        self.snapshots = like.new_zeros(window // self.stride, len(like))
        self._first = torch.zeros_like(like, dtype=wide(like.device))
        self._sum = torch.zeros_like(self._first)

    def record(self, row: Tensor) -> None:
        """Takes the next iterate, ``[d]``; beyond the window it counts no more."""
        if self.is_full:
            return
        if self.count == 0:
            self._first.copy_(row)
        self._sum += row - self._first
        self.count += 1
        if self.count % self.stride == 0:
            self.snapshots[self.count // self.stride - 1] = row

    @property
    def is_full(self) -> bool:
        """Whether all of the window has been seen."""
        return self.count >= self.window

    @property
    def mean(self) -> Tensor:
        """The mean of the iterates seen, ``[d]``: their ergodic average; 0 before the first."""
        return self._first + self._sum / max(self.count, 1)
