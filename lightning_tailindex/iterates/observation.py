"""What was seen of the iterates in one window."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["GroupIterates", "IterateObservation"]


@dataclass(frozen=True)
class GroupIterates:
    """The iterates of one group of parameters in one window, at the sampled coordinates.

    Attributes:
        name: The group's name.
        averages: Ergodic averages, the means of the iterates over the window, ``[1 + workers, d]``: of the replicas'
            average (or the one replica that there is) and, where each is asked for, of every worker's.
        deviations: Snapshots minus their ergodic average, ``[1 + workers, snapshots, d]``.
        repetitions: Ergodic averages of this window and those before, oldest first, ``[n, d]``.
        num_coordinates: Coordinates that the group has in all.
    """

    name: str
    averages: Tensor
    deviations: Tensor
    repetitions: Tensor
    num_coordinates: int


@dataclass(frozen=True)
class IterateObservation:
    """The iterates of one window.

    Attributes:
        groups: One entry per group, the whole model last.
        window: Iterates in the window.
        stride: Steps from one snapshot to the next.
        burn_in: Optimizer steps before the first window.
        is_found: Whether the burn-in was found by the loss, not given.
    """

    groups: tuple[GroupIterates, ...]
    window: int
    stride: int
    burn_in: int
    is_found: bool

    @property
    def note(self) -> str:
        """Says in words what a reader has to know of all groups."""
        found = "where no fall of the loss could be told" if self.is_found else "as given"
        snapshots = "every step" if self.stride == 1 else f"one in {self.stride} steps"
        return (
            "the α of ergodic averages takes coordinates for draws, which are neither independent nor of one scale"
            " within a group;"
            f" that of deviations takes snapshots, {snapshots}, which depend on each other in time;"
            f" the burn-in was of {self.burn_in} steps, {found}"
        )
