"""Ergodic averages of one window after the other, as draws."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Repetitions"]

_MOST = 256


class Repetitions(NamedTuple):
    """Ergodic averages of the last windows, of coordinates that stay the same.

    Attributes:
        rows: The averages, oldest first, ``[n, d]``; 256 at most.
        widths: How many coordinates of which parameters are in a row.
    """

    rows: Tensor
    widths: tuple[tuple[str, int], ...]

    def and_of(self, new: Tensor, widths: tuple[tuple[str, int], ...]) -> Repetitions:
        """Returns them with those of one more window.

        Args:
            new: Its averages, ``[k, d]``.
            widths: How many coordinates of which parameters they have. If others than before, those before are dropped.
        """
        rows = torch.cat([self.rows, new]) if self.widths == widths else new
        return Repetitions(rows[-_MOST:].clone(), widths)
