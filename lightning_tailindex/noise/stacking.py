"""Many minibatches as one, whose tensors have one more dimension, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from .minibatches import Minibatch

__all__ = ["shapes", "stacked"]


def shapes(minibatch: Minibatch) -> tuple[object, ...]:
    """What minibatches have to have in common to be stacked."""
    leaves, structure = tree_flatten(minibatch.batches)
    return (str(structure), *((leaf.shape, leaf.dtype) if isinstance(leaf, Tensor) else None for leaf in leaves))


def stacked(minibatches: Sequence[Minibatch]) -> tuple[list[Tensor], Callable[[list[Tensor]], Sequence[object]]]:
    """Stacks the tensors of minibatches, and returns what makes loader batches of one slice of them again."""
    leaves, structures = zip(*(tree_flatten(minibatch.batches) for minibatch in minibatches), strict=True)
    if any(structure != structures[0] for structure in structures):
        raise ValueError("minibatches have different structures")
    columns = list(zip(*leaves, strict=True))
    places = [place for place, column in enumerate(columns) if isinstance(column[0], Tensor)]
    others = {place: column[0] for place, column in enumerate(columns) if place not in places}
    if any(item != others[place] for place in others for item in columns[place]):
        raise ValueError("minibatches differ in something that is no tensor")
    tensors = [torch.stack(columns[place]) for place in places]

    def rebuild(parts: list[Tensor]) -> Sequence[object]:
        by_place: dict[int, Any] = {**others, **dict(zip(places, parts, strict=True))}
        batches: Sequence[object] = tree_unflatten([by_place[place] for place in range(len(columns))], structures[0])
        return batches

    return tensors, rebuild
