"""When a training has settled, by its own loss."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from .recorder import wide

__all__ = ["Settling"]

_ERRORS = 2.0
"""Standard errors by which a block's mean loss has to be below that of the one before to say that it still falls."""


class Settling:
    r"""Compares the mean loss of blocks: it has settled once a block's is no longer below that of the block before.

    .. math:: \bar L_i \ge \bar L_{i-1} - 2 \sqrt{s_i^2 / n_i + s_{i-1}^2 / n_{i-1}}

    where s² is the variance of the n losses in a block, taken as independent. Nothing in it is random, and nothing is
    chosen but the length of the blocks. Losses stay on their device until a block ends. A loss that is not finite has
    not settled.

    Args:
        device: Where the losses are.

    Example:
        >>> settling = Settling(torch.device("cpu"))
        >>> for block in ([3.0, 3.1], [1.0, 1.1], [1.0, 1.1]):
        ...     for loss in block:
        ...         settling.see(torch.tensor(loss))
        ...     print(settling.end_block())
        False
        False
        True
    """

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(3, dtype=wide(device), device=device)  # losses, their squares, their number
        self._before: tuple[float, float] | None = None

    def see(self, loss: Tensor) -> None:
        """Takes a loss."""
        value = loss.detach().mean().to(self._sums)
        self._sums += torch.stack([value, value.square(), torch.ones_like(value)])

    def end_block(self, mean: Callable[[Tensor], Tensor] = lambda tensor: tensor, count: int = 1) -> bool:
        """Ends a block; of several processes, each has to call it.

        Args:
            mean: Averages a tensor over the processes, so that all of them say the same.
            count: Processes.

        Returns:
            Whether the loss has settled.

        Raises:
            ValueError: If the block had no loss.
        """
        total, squares, number = mean(self._sums).tolist()
        self._sums = torch.zeros_like(self._sums)
        if number == 0:
            raise ValueError("burn_in=None needs the loss that training_step returns, and got none: give it in steps.")
        average = total / number
        error_square = max(squares / number - average**2, 0.0) / (number * count)
        before, self._before = self._before, (average, error_square)
        if before is None or not math.isfinite(average) or not math.isfinite(before[0]):
            return False
        return bool(average >= before[0] - _ERRORS * math.sqrt(before[1] + error_square))
