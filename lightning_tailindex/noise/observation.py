"""What was seen of the gradient noise at one point of training."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lightning_tailindex.records.notes import joined

from .pairs import PairNoise
from .processes import NoiseUnit

__all__ = ["GroupNoise", "NoiseObservation"]

_ROUNDING = 64
"""Sums taken in another order differ by some units in the last place of the gradient."""


@dataclass(frozen=True)
class GroupNoise:
    """The gradient noise of one group of parameters.

    Attributes:
        name: The group's name.
        gradients: Minibatch gradients at the sampled coordinates, ``[n, d]``.
        full_gradient: Full gradient at the same coordinates, ``[d]``.
        num_coordinates: Coordinates that the group has in all.
        gradient_norm: Euclidean norm of the full gradient over all coordinates; of training's own gradients, that of
            the sampled ones, scaled up.
        noise_norm: Root mean square, over the draws, of the noise's norm over all coordinates; likewise.
        pairs: What all coordinates told in pairs of draws; None where only the sampled ones were looked at.
        left_out: Of draws that are differences of two gradients, those of which one is exactly 0, ``[n, d]``: half a
            difference has another scale. None where draws are gradients themselves.
    """

    name: str
    gradients: Tensor
    full_gradient: Tensor
    num_coordinates: int
    gradient_norm: Tensor
    noise_norm: Tensor
    pairs: PairNoise | None = None
    left_out: Tensor | None = None

    @property
    def noise(self) -> Tensor:
        """Minibatch gradient − full gradient at the sampled coordinates, ``[n, d]``."""
        return self.gradients - self.full_gradient

    @property
    def nonzero_noise(self) -> Tensor:
        """The noise, but 0 where a minibatch's gradient is exactly 0, ``[n, d]``.

        A dead unit's gradient is 0 in minibatch after minibatch, so its noise is a spike at minus the full gradient.
        Estimators count exact zeros apart and leave them out.
        """
        return torch.where(self.gradients == 0 if self.left_out is None else self.left_out, 0, self.noise)

    @property
    def is_rounding(self) -> bool:
        """Whether the noise is no more than the rounding of the gradient, as where every minibatch is all the data."""
        smallest = _ROUNDING * torch.finfo(self.gradients.dtype).eps * self.gradient_norm
        return bool((self.noise_norm > 0) & (self.noise_norm <= smallest))


@dataclass(frozen=True)
class NoiseObservation:
    """The gradient noise at one point of training.

    Attributes:
        groups: One entry per group, the whole model last.
        num_draws: Minibatches whose gradients are draws, n.
        num_full_minibatches: Minibatches averaged into the full gradient.
        minibatch_size: Samples in a minibatch over all processes; 0 where nobody knows.
        shares_data: Whether some draws may use samples that other draws used too.
        noise_unit: What a draw is: "step" for what an optimizer step consumes, "loader" for one loader batch.
        draw_samples: For each draw, which samples of the data set it has; empty where nobody knows, as where several
            processes have a share in it.
    """

    groups: tuple[GroupNoise, ...]
    num_draws: int
    num_full_minibatches: int
    minibatch_size: int
    shares_data: bool
    noise_unit: NoiseUnit = "step"
    draw_samples: tuple[tuple[int, ...], ...] = ()

    def note(self, wanted: int) -> str:
        """Says in words what a reader has to know of all groups, given the draws that were asked for."""
        few = f"there are {self.num_draws} draws instead of {wanted}" if self.num_draws < wanted else ""
        why = "an epoch has fewer complete minibatches than draws were asked for"
        why = why if self.num_full_minibatches > 0 else "their steps are of several epochs"
        return joined(few, f"draws may share data: {why}" if self.shares_data else "")
