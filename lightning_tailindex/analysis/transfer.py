"""Numbers from the device to the host, in one transfer for a report."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

import torch
from torch import Tensor

__all__ = ["on_host"]


def on_host(pieces: Sequence[Tensor]) -> list[list[float]]:
    """Brings flat tensors of one device to the host, in the precision of the first.

    Example:
        >>> on_host([torch.zeros(2), torch.zeros(0), torch.ones(1)])
        [[0.0, 0.0], [], [1.0]]
    """
    ends = [0, *accumulate(map(len, pieces))]
    numbers = torch.cat([piece.to(pieces[0]) for piece in pieces]).tolist()
    return [numbers[start:end] for start, end in pairwise(ends)]
