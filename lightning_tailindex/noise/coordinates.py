"""A fixed, seeded sample of each group's coordinates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

__all__ = ["CoordinateSample", "kept_dtype", "real_coordinates", "sample_coordinates", "sample_parameters"]


def real_coordinates(parameter: Tensor) -> int:
    """Counts the real numbers in a parameter; a complex one has two per entry."""
    return parameter.numel() * (2 if parameter.is_complex() else 1)


def kept_dtype(parameters: Iterable[Tensor]) -> torch.dtype:
    """Finds the precision in which gradients are kept: single, but double where one of the parameters has it."""
    is_double = any(parameter.dtype in (torch.float64, torch.complex128) for parameter in parameters)
    return torch.float64 if is_double else torch.float32


@dataclass(frozen=True)
class CoordinateSample:
    """Where the sampled coordinates lie in the parameters, and which of them belong to a group.

    A draw is gathered into one row: for each parameter the coordinates ``indices[name]`` of its flattened gradient,
    parameter after parameter. A coordinate that two groups sampled is gathered once.

    Attributes:
        indices: Per parameter, the sorted flat indices to gather, in the order of the columns.
        columns: Per group, its columns in the row.
        sizes: Per group, the number of coordinates that it has in all.
    """

    indices: Mapping[str, Tensor]
    columns: Mapping[str, Tensor]
    sizes: Mapping[str, int]

    @property
    def width(self) -> int:
        """Number of columns of a row."""
        return sum(len(index) for index in self.indices.values())


def _sample_without_replacement(population: int, count: int, generator: torch.Generator) -> Tensor:
    if count * 4 >= population:
        return torch.randperm(population, generator=generator, device="cpu")[:count]
    # a permutation of a hundred million coordinates to choose a thousand would take a gigabyte
    chosen = torch.empty(0, dtype=torch.long, device="cpu")
    while len(chosen) < count:
        more = torch.randint(population, (2 * count,), generator=generator, device="cpu")
        chosen = torch.unique(torch.cat([chosen, more]))
    return chosen[torch.randperm(len(chosen), generator=generator, device="cpu")[:count]]


def _choose(names: tuple[str, ...], sizes: Mapping[str, int], limit: int | None, seed: int) -> dict[str, Tensor]:
    """Chooses a group's coordinates uniformly and returns them by parameter, as flat indices."""
    total = sum(sizes[name] for name in names)
    generator = torch.Generator().manual_seed(seed)
    count = total if limit is None else min(limit, total)
    chosen = _sample_without_replacement(total, count, generator).sort().values
    ends = torch.tensor([sizes[name] for name in names], device="cpu").cumsum(0)
    owner = torch.searchsorted(ends, chosen, right=True)
    starts = [0, *ends[:-1].tolist()]
    parts = torch.split(chosen, owner.bincount(minlength=len(names)).tolist())  # owners are sorted as the chosen are
    return {name: part - start for name, part, start in zip(names, parts, starts, strict=True)}


def sample_coordinates(
    sizes: tuple[tuple[str, int], ...],
    groups: tuple[tuple[str, tuple[str, ...]], ...],
    max_coordinates: int | None,
    seed: int,
) -> CoordinateSample:
    """Samples coordinates of each group, the same for the same arguments.

    Args:
        sizes: Name and number of real coordinates of each measured parameter.
        groups: Name of each group and the names of its parameters.
        max_coordinates: Coordinates sampled per group, uniformly and without replacement; None for every one.
        seed: Seed of the choice.

    Returns:
        The sample.
    """
    size_of = dict(sizes)
    chosen = {group: _choose(names, size_of, max_coordinates, seed) for group, names in groups}
    wanted: dict[str, dict[str, Tensor]] = {name: {} for name in size_of}
    for group, by_name in chosen.items():
        for name, part in by_name.items():
            wanted[name][group] = part
    indices: dict[str, Tensor] = {}
    columns: dict[str, list[Tensor]] = {group: [] for group in chosen}
    start = 0
    for name, by_group in wanted.items():
        if not by_group:
            continue
        indices[name], position = torch.unique(torch.cat(list(by_group.values())), return_inverse=True)
        for group, part in zip(by_group, position.split(list(map(len, by_group.values()))), strict=True):
            columns[group].append(part + start)
        start += len(indices[name])
    return CoordinateSample(
        indices=indices,
        columns={group: torch.cat(parts) for group, parts in columns.items()},
        sizes={group: sum(size_of[name] for name in names) for group, names in groups},
    )


def sample_parameters(
    parameters: Mapping[str, Tensor], groups: Mapping[str, tuple[str, ...]], max_coordinates: int | None, seed: int
) -> CoordinateSample:
    """Samples coordinates of groups of parameters, as :func:`sample_coordinates` does of their sizes."""
    sizes = tuple((name, real_coordinates(parameter)) for name, parameter in parameters.items())
    sample = sample_coordinates if max_coordinates is None else _kept_sample
    return sample(sizes, tuple(groups.items()), max_coordinates, seed)


@lru_cache(maxsize=4)
def _kept_sample(*arguments: Any) -> CoordinateSample:
    """A sample of limited size, which a measurement shares with the next; every coordinate would take much memory."""
    return sample_coordinates(*arguments)
