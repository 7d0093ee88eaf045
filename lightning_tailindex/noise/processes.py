"""The processes that measure together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["OtherProcessError", "Processes"]


class OtherProcessError(RuntimeError):
    """Another process could not measure, so this one does not either."""


@dataclass(frozen=True)
class Processes:
    """The processes that measure together.

    Attributes:
        count: How many they are.
        mean: Averages a tensor over them.
        device: Where the tensors to average have to be.
    """

    count: int = 1
    mean: Callable[[Tensor], Tensor] = field(default=lambda tensor: tensor)
    device: torch.device = field(default=torch.device("cpu"))

    def agree(self, error: Exception | None, num_draws: int) -> None:
        """Waits for the others and goes on only if all of them succeeded, so that none waits for one that failed.

        Args:
            error: What went wrong in this process, if anything did.
            num_draws: Draws that this process has.

        Raises:
            Exception: ``error``, if there was one.
            OtherProcessError: If another process failed or has another number of draws.
        """
        is_unequal = False
        if self.count > 1:
            numbers = [float(error is None), num_draws, num_draws**2]
            own = torch.tensor(numbers, dtype=torch.float64, device=self.device)
            succeeded, draws, squares = self.mean(own).tolist()
            # an average may be rounded; where two processes differ, it is off by far more
            is_unequal = succeeded < 1 - 1e-6 or squares - draws**2 > 1e-9 * (1 + squares)
        if error is not None:
            raise error
        if is_unequal:
            raise OtherProcessError("another process could not measure.")
