"""Which weights of a module are followed, and their values in one row."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_tailindex.noise.coordinates import CoordinateSample, kept_dtype, sample_parameters
from lightning_tailindex.noise.groups import Grouping, group_names, listed, measured_parameters
from lightning_tailindex.noise.recorder import flat_gradient
from lightning_tailindex.noise.sharded import is_sharded

from .flavour import LightningModule

__all__ = ["IterateSettings", "Replicas", "SampledWeights"]

Replicas = Literal["same", "average", "each"]
"""Whose iterates: of replicas that are the same, of their average, or of their average and each of them."""


@dataclass(frozen=True)
class IterateSettings:
    """What is followed, as the arguments of ``IterateTailIndexMonitor`` of the same names say.

    Attributes:
        window: Iterates in a window.
        burn_in: Optimizer steps before the first window; None to find it by the loss.
        grouping: Function from a parameter's name to its group's.
        patterns: Expressions of the parameters' names; none for all.
        max_coordinates: Coordinates sampled per group.
        replicas: Whose iterates.
        seed: Seed of the sample.
    """

    window: int
    burn_in: int | None
    grouping: Grouping
    patterns: tuple[re.Pattern[str], ...]
    max_coordinates: int
    replicas: Replicas
    seed: int

    def beginning(self, found: int | None, start: int, end: float) -> str:
        """Says where windows begin and how many fit into the training, in a part of a sentence.

        Args:
            found: The burn-in that was found before; None if none was.
            start: Optimizer steps taken.
            end: The step at which training ends; infinity where nobody knows.
        """
        known = found if self.burn_in is None else self.burn_in
        if known is None:
            where = f"once the mean loss no longer falls from one {self.window} steps to the next"
            first = start + 2 * self.window  # the first two are compared
        else:
            is_found = self.burn_in is None
            where = f"after {'the' if is_found else 'a'} burn-in of {known} steps{' that was found before' * is_found}"
            first = max(known, start)
        if end == math.inf:
            return where
        number = max(0, (int(end) - first) // self.window)
        several = f"{'at most ' if known is None else ''}{number} window{'' if number == 1 else 's'}"
        return f"{where}: {several if number else 'not one window'} will be full when training ends (window, burn_in)"


def _with_elements(module: LightningModule, settings: IterateSettings) -> dict[str, nn.Parameter]:
    """The parameters to follow but for those without an element, which have no iterates to tell of."""
    measured = measured_parameters(module, settings.patterns)
    found = {name: parameter for name, parameter in measured.items() if parameter.numel()}
    if not found:
        raise ValueError(f"iterates need parameters with elements, got none in {listed(list(measured))}.")
    return found


class SampledWeights:
    """The sampled coordinates of a module's trainable weights, gathered into one row."""

    def __init__(self, module: LightningModule, settings: IterateSettings) -> None:
        measured = _with_elements(module, settings)
        for name, parameter in measured.items():
            if is_sharded(parameter):
                raise ValueError(f"iterates need weights that are whole in each process, {name!r} is sharded.")
        self.groups = group_names(measured, settings.grouping)
        self.sample: CoordinateSample = sample_parameters(
            measured, self.groups, settings.max_coordinates, settings.seed
        )
        self._parts = [(measured[name], index.to(measured[name].device)) for name, index in self.sample.indices.items()]
        self._dtype = kept_dtype(parameter for parameter, _ in self._parts)
        self._device = self._parts[0][0].device

    @property
    def widths(self) -> tuple[tuple[str, int], ...]:
        """How many coordinates of which parameters a row has."""
        return tuple((name, len(index)) for name, index in self.sample.indices.items())

    def are_of(self, module: LightningModule) -> bool:
        """Whether all of them are still parameters of the module; others may have taken their place."""
        known = {id(parameter) for parameter in module.parameters()}
        return all(id(parameter) in known for parameter, _ in self._parts)

    def read(self) -> Tensor:
        """Returns the weights as they are, ``[d]``."""
        with torch.no_grad():
            parts = [flat_gradient(p).index_select(0, index).to(self._device, self._dtype) for p, index in self._parts]
            return torch.cat(parts)
