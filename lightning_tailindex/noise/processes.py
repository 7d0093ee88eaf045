"""The processes that measure together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch
from torch import Tensor

__all__ = ["NoiseUnit", "OtherProcessError", "Processes"]

NoiseUnit = Literal["step", "loader"]
"""What a draw is: what an optimizer step consumes, or one loader batch of one process."""


T = TypeVar("T")

_PASS = -1
"""Told in place of a number of draws by a process that goes on: it does not agree with one that is done."""


class OtherProcessError(RuntimeError):
    """Another process could not measure, so this one does not either."""


@dataclass(frozen=True)
class Processes:
    """The processes that measure together.

    Attributes:
        count: How many they are.
        average: Averages a tensor over them, which may be overwritten.
        device: Where the tensors to average have to be.
        gather: Stacks the tensors of all of them, the same in each.
        noise_unit: Whether a draw is what a step consumes, of which each process has a share, or one process's own.
        total: Adds a tensor up over them, where each holds other coordinates of gradients that are averaged already
            (FSDP2); None where each holds all coordinates of its own gradients.
    """

    count: int = 1
    average: Callable[[Tensor], Tensor] = field(default=lambda tensor: tensor)
    device: torch.device = field(default=torch.device("cpu"))
    gather: Callable[[Tensor], Tensor] = field(default=lambda tensor: tensor[None])
    noise_unit: NoiseUnit = "step"
    total: Callable[[Tensor], Tensor] | None = None

    @property
    def per_draw(self) -> int:
        """Processes that have a share in each draw."""
        return self.count if self.noise_unit == "step" else 1

    def mean(self, own: Tensor) -> Tensor:
        """Averages a tensor over them, which is left as it is."""
        return self.average(own.clone())

    def draws(self, own: Tensor) -> Tensor:
        """Makes the draws, ``[n, d]``, of those of each process: their averages, or all of them.

        Of shards they are sums, for each process has zeros where another holds the coordinate.
        """
        if self.total is not None:
            return self.total(own)
        return self.mean(own) if self.noise_unit == "step" else self.gather(own).flatten(0, 1)

    def gradient(self, own: Tensor) -> Tensor:
        """Makes the full gradient of those of each process, which may be overwritten: their average.

        A shard stays what it is.
        """
        return self.average(own) if self.total is None else own

    @property
    def shares_draws(self) -> bool:
        """Whether each process sees its own share of each draw's minibatch."""
        return self.total is None and self.per_draw > 1

    def noise_squares(self, own: Tensor) -> Tensor:
        """Makes mean squared norms of the noise of those of each process.

        Where a process sees its own share of a minibatch, shares are independent, so the noise of their average has the
        mean square of one share's noise, around its own mean, over the number of processes. Squares over shards add up.
        """
        return self.mean(own) / self.per_draw if self.total is None else self.total(own)

    def whole(self, own: Tensor) -> Tensor:
        """Makes sums over coordinates, or rows with zeros where another process holds the coordinate, those of all."""
        return own if self.total is None else self.total(own)

    def in_step(self) -> None:
        """Waits for the others before what itself waits for them, as the passes of a sharded module do.

        Raises:
            OtherProcessError: If another process failed before it came here, or has no more passes to make.
        """
        if self.total is not None:
            self.agree(None, _PASS)

    def whole_in_step(self, own: Tensor) -> Tensor:
        """Does what :meth:`whole` does in the middle of work that may have failed in another process."""
        self.in_step()
        return self.whole(own)

    def mean_in_step(self, own: Tensor) -> Tensor:
        """Does what :meth:`mean` does in the middle of work that may have failed in another process."""
        copy = own.clone()  # what takes memory comes before the agreement
        self.agree(None, _PASS)
        return self.average(copy)

    def gather_in_step(self, own: Tensor) -> Tensor:
        """Does what :attr:`gather` does in the middle of work that may have failed in another process."""
        self.agree(None, _PASS)
        return self.gather(own)

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
            succeeded, draws, squares = self.average(own).tolist()
            # an average may be rounded; where two processes differ, it is off by far more
            is_unequal = succeeded < 1 - 1e-6 or squares - draws**2 > 1e-9 * (1 + squares)
        if error is not None:
            raise error
        if is_unequal:
            raise OtherProcessError("another process could not measure.")

    def all_or_none(self, work: Callable[[], T], num_draws: Callable[[T], int] = lambda result: 0) -> T:
        """Does something in every process, and fails in each of them if it fails in one.

        Args:
            work: What to do; it does not wait for other processes, unless all of them :meth:`agree` before.
            num_draws: Tells the draws in its result.

        Returns:
            What ``work`` returned.

        Raises:
            Exception: What ``work`` raised.
            OtherProcessError: If another process failed or has another number of draws.
        """
        try:
            result = work()
        except OtherProcessError:
            raise  # the work found out by itself, with all of them
        except Exception as error:
            self.agree(error, 0)
            raise
        self.agree(None, num_draws(result))
        return result

    def all(self, holds: bool) -> bool:
        """Whether something holds in every process; each of them has to ask."""
        own = torch.tensor(float(holds), dtype=torch.float64, device=self.device)
        return holds if self.count == 1 else self.average(own).item() > 1 - 1e-6
