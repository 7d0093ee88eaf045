"""What a process holds of parameters and gradients that are sharded over processes, and which coordinates these are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .coordinates import CoordinateSample, real_coordinates

__all__ = ["OwnCoordinates", "check_shards", "is_sharded", "own_part"]


def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is a ``DTensor``; importing its class would take as long as torch itself."""
    return type(tensor).__name__ == "DTensor"


def _is_first_replica(tensor: Any) -> bool:
    mesh = tensor.device_mesh
    return all(mesh.get_local_rank(i) == 0 for i, part in enumerate(tensor.placements) if part.is_replicate())


def own_part(tensor: Tensor) -> Tensor:
    """Returns what this process counts: its shard, nothing where another counts the same; else the whole tensor."""
    if not is_sharded(tensor):
        return tensor
    local: Tensor = tensor.to_local()  # type: ignore[attr-defined]
    return local if _is_first_replica(tensor) else local[:0]


def _own_range(parameter: Any) -> tuple[int, int]:
    """Returns where this process's coordinates start and end among all of a parameter's, as ``torch.chunk`` cuts."""
    size = real_coordinates(parameter)
    if not is_sharded(parameter):
        return 0, size
    if not _is_first_replica(parameter) or size == 0:
        return 0, 0
    (i,) = (i for i, part in enumerate(parameter.placements) if part.is_shard())
    rows = -(-len(parameter) // parameter.device_mesh.size(i))
    first = rows * parameter.device_mesh.get_local_rank(i)
    each = size // len(parameter)
    return min(first, len(parameter)) * each, min(first + rows, len(parameter)) * each


@dataclass(frozen=True)
class OwnCoordinates:
    """The sampled coordinates that this process holds.

    Attributes:
        indices: For each parameter, the indices into its flat own part, on its device.
        columns: The columns of a row of all sampled coordinates that they fill, one behind the other.
        width: Number of columns of such a row.
    """

    indices: Mapping[str, Tensor]
    columns: Tensor
    width: int

    @classmethod
    def of(cls, sample: CoordinateSample, parameters: Mapping[str, Tensor]) -> OwnCoordinates:
        """Finds them in a sample, the same in all processes."""
        indices, columns, before = {}, [torch.zeros(0, dtype=torch.long, device="cpu")], 0
        for name, index in sample.indices.items():
            start, end = _own_range(parameters[name])
            low, high = torch.searchsorted(index, index.new_tensor([start, end])).tolist()
            indices[name] = (index[low:high] - start).to(parameters[name].device)
            columns.append(before + torch.arange(low, high, device="cpu"))
            before += len(index)
        return cls(indices, torch.cat(columns), sample.width)

    def rows(self, own: Tensor) -> Tensor:
        """Rows of all sampled coordinates, from those that this process holds; 0 where another one does."""
        if own.shape[1] == self.width:
            return own
        return own.new_zeros(len(own), self.width).index_copy(1, self.columns.to(own.device), own)


def check_shards(parameters: Mapping[str, Tensor]) -> None:
    """Refuses parameters that are not cut into rows, the way ``fully_shard`` does by default.

    Args:
        parameters: The measured parameters of a sharded module by name.

    Raises:
        ValueError: If one is whole, so that each process has its own gradient of it, or is cut in another way.
    """
    for name, parameter in parameters.items():
        if not is_sharded(parameter):
            raise ValueError(f"fully_shard must hold every measured parameter, it does not hold {name!r}.")
        placements: Any = parameter.placements  # type: ignore[attr-defined]
        cuts = [part for part in placements if not part.is_replicate()]
        if len(cuts) != 1 or not cuts[0].is_shard(0) or type(cuts[0]).__name__ != "Shard":
            rule = "must be sharded once, along its first dimension, as fully_shard does"
            raise ValueError(f"{name!r} {rule}, got {placements}: tensor parallelism is not supported.")
