"""What a reader has to know of a measurement, in words."""

from __future__ import annotations

import math

from lightning_tailindex.noise.observation import GroupNoise
from lightning_tailindex.records import Measurement, TailIndexEstimate

__all__ = ["NO_STABLE_LAW", "group_note", "misfit"]

NO_STABLE_LAW = "no stable law fits"
"""What a note says, behind all else, where none does; the Gaussian is one of them."""

_CHANCE = 1.358  # 95 % point of Kolmogorov's law: the distance by chance, times the root of the number of values
_POOR = 0.05


def group_note(group: GroupNoise, estimate: TailIndexEstimate) -> str:
    """Says why there is no estimate, or what holds of it."""
    if len(group.gradients) == 0:
        return "no minibatch gave a draw"
    if not group.gradients.any():
        return "no gradient reached this group"
    if group.left_out is not None and bool(group.left_out.all()):
        return "one of the two gradients of each pair of steps is exactly 0"
    if group.is_rounding:
        return "the noise is no more than the rounding of the gradient"
    return estimate.note


def misfit(found: Measurement) -> str:
    """Says that no stable law fits, where the distance is large and beyond what chance makes of so many values."""
    distance, independent = found.kolmogorov_distance, found.num_draws * found.effective_coordinates
    beyond_chance = independent > 0 and distance > _CHANCE / math.sqrt(independent)
    return f"{NO_STABLE_LAW}: Kolmogorov distance {distance:.2f}" if beyond_chance and distance > _POOR else ""
