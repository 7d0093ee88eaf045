"""Weights that a layer computes of its parameters: pruned, parametrized, or normalized by a hook."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from lightning_tailindex.noise.random_state import isolated_random_state

__all__ = ["ComputedWeight", "computed_weights"]


@dataclass(frozen=True)
class ComputedWeight:
    """A weight that a layer does not have as a parameter.

    Attributes:
        name: Its name in the layer.
        sources: The parameters that it is made of, by their names or others.
        compute: Makes it of the numbers of its sources by the same names, as it is in evaluation, and leaves the layer
            as it is.
    """

    name: str
    sources: Mapping[str, nn.Parameter]
    compute: Callable[[Mapping[str, Tensor]], Tensor]


def computed_weights(layer: nn.Module) -> Iterator[ComputedWeight]:
    """Finds the weights that a layer computes itself, not those of the layers in it.

    Args:
        layer: The layer.

    Yields:
        What ``torch.nn.utils.prune``, ``torch.nn.utils.parametrize``, and the older hooks of
        ``torch.nn.utils.weight_norm`` and ``torch.nn.utils.spectral_norm`` make of its parameters.
    """
    yield from _pruned(layer)
    yield from _parametrized(layer)
    yield from _normalized(layer)


def _pruned(layer: nn.Module) -> Iterator[ComputedWeight]:
    parameters = dict(layer.named_parameters(recurse=False))
    for buffer, mask in layer.named_buffers(recurse=False):
        name = buffer.removesuffix("_mask")
        if name != buffer and f"{name}_orig" in parameters:
            yield ComputedWeight(name, {"weight": parameters[f"{name}_orig"]}, partial(_masked, mask))


def _masked(mask: Tensor, sources: Mapping[str, Tensor]) -> Tensor:
    return sources["weight"] * mask


def _parametrized(layer: nn.Module) -> Iterator[ComputedWeight]:
    every: Any = layer.parametrizations if is_parametrized(layer) else {}
    for name, computing in every.items():
        assert isinstance(computing, ParametrizationList)
        yield ComputedWeight(name, dict(computing.named_parameters(recurse=False)), partial(_evaluated, computing))


def _evaluated(computing: ParametrizationList, sources: Mapping[str, Tensor]) -> Tensor:
    """Asks a copy: spectral normalization changes its buffers whenever it computes a weight in training."""
    own = {id(each): each for each in computing.parameters()}  # are not copied
    copied = copy.deepcopy(computing, own).eval()
    with torch.no_grad(), isolated_random_state(0, next(iter(sources.values())).device):
        weight: Tensor = functional_call(copied, dict(sources), ())
    return weight


def _normalized(layer: nn.Module) -> Iterator[ComputedWeight]:
    parameters = dict(layer.named_parameters(recurse=False))
    for hook in layer._forward_pre_hooks.values():
        if isinstance(hook, (WeightNorm, SpectralNorm)):
            ends = ("_v", "_g") if isinstance(hook, WeightNorm) else ("_orig",)
            sources = {f"{hook.name}{end}": parameters.get(f"{hook.name}{end}") for end in ends}
            found = {name: each for name, each in sources.items() if each is not None}
            if len(found) == len(ends):  # or one of them is pruned or parametrized itself
                yield ComputedWeight(hook.name, found, partial(_as_by_hook, hook, layer))


def _as_by_hook(hook: WeightNorm | SpectralNorm, layer: nn.Module, sources: Mapping[str, Tensor]) -> Tensor:
    """Lets a hook compute the weight of other numbers: it reads them of what has them, and is shown no layer."""
    without_steps: Any = {"do_power_iteration": False} if isinstance(hook, SpectralNorm) else {}
    read: Any = SimpleNamespace(**dict(layer.named_buffers(recurse=False)), **sources)
    with torch.no_grad():
        weight: Tensor = hook.compute_weight(read, **without_steps)
    return weight
