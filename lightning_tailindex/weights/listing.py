"""Which weights of a module are matrices, and their numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import is_lazy

from lightning_tailindex.noise.groups import listed
from lightning_tailindex.noise.sharded import is_sharded

from .computed import computed_weights
from .lazy import lazy_parameters, shaped_parameters

__all__ = ["WeightMatrix", "weight_matrices"]


@dataclass(frozen=True)
class WeightMatrix:
    """A weight that is a matrix, or the kernel of a convolution.

    Attributes:
        name: Its name in the module.
        sources: The parameters that it is made of: itself, or those that the layer computes it of.
        computing: What computes it of their numbers; None where it is a parameter.
        is_layers: Whether it is the weight of a linear layer or a convolution, whatever the shape of its sources.
        groups: Groups of a transposed convolution; None of everything else.
    """

    name: str
    sources: Mapping[str, nn.Parameter]
    computing: Callable[[Mapping[str, Tensor]], Tensor] | None = None
    is_layers: bool = False
    groups: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape, a row being an output; of a computed one that of its largest source."""
        largest = max(self.sources.values(), key=torch.Tensor.numel)
        return tuple(_by_outputs(torch.empty(largest.shape, device="meta"), self.groups).shape)

    @property
    def is_matrix(self) -> bool:
        """Whether it has a spectrum."""
        is_shaped = not any(is_lazy(each) for each in self.sources.values())
        return is_shaped and (self.is_layers or len(self.shape) == 2)

    def gather(self) -> dict[str, Tensor]:
        """Gathers the numbers of its sources where processes have shards of them: all ask in the same order."""
        return {name: _whole(each.detach()) for name, each in self.sources.items()}

    def compute(self, sources: Mapping[str, Tensor]) -> Tensor:
        """Makes it of its sources, as it is in evaluation, and leaves the module as it is.

        Args:
            sources: What :meth:`gather` returned.

        Returns:
            The weight, a row being an output.
        """
        (first, *_) = sources.values()
        return _by_outputs(first if self.computing is None else self.computing(sources), self.groups)


def weight_matrices(module: nn.Module, patterns: Iterable[re.Pattern[str]] = ()) -> dict[str, WeightMatrix]:
    """Lists the trainable weights that are matrices: of two dimensions, or kernels of convolutions.

    Other parameters of more dimensions, such as embeddings of positions, are no matrices. The packed projection of an
    attention, ``in_proj_weight``, is one matrix ``[3 embed, embed]``. A weight that is parametrized, or normalized by
    the older hooks of ``torch.nn.utils``, is one matrix, the one that the layer computes with, whatever it is made of;
    it is trainable, and chosen, if one of its originals is. So is a pruned one, with zeros where its mask has them.

    Args:
        module: The module.
        patterns: Expressions, one of which has to be found in a parameter's name; none for every matrix.

    Returns:
        The weights by name, in the order of the module; none as long as those that could be matrices are lazy.

    Raises:
        ValueError: If there are none.
    """
    wanted = tuple(patterns)
    parameters = shaped_parameters(module, wanted)
    known: dict[int, WeightMatrix] = {}
    for matrix in _of_layers(module):
        for source in matrix.sources.values():
            known.setdefault(id(source), matrix)
    every = (known.get(id(each), WeightMatrix(name, {"weight": each})) for name, each in parameters.items())
    found = {matrix.name: matrix for matrix in every if matrix.is_matrix}
    if not found and not lazy_parameters(module, wanted):
        raise ValueError(
            f"{type(module).__name__} has no weight matrices among its trainable parameters {listed(list(parameters))}."
        )
    return found


def _of_layers(module: nn.Module) -> Iterator[WeightMatrix]:
    """Weights of which more is known than a parameter tells: kernels, and what is computed."""
    for path, part in module.named_modules():
        prefix = f"{path}." if path else ""
        groups = part.groups if isinstance(part, _ConvTransposeNd) else None
        own = dict(part.named_parameters(recurse=False)).get("weight")
        if isinstance(part, _ConvNd) and own is not None:
            yield WeightMatrix(f"{prefix}weight", {"weight": own}, None, True, groups)
        for each in computed_weights(part):
            is_layers = each.name == "weight" and isinstance(part, (_ConvNd, nn.Linear))
            yield WeightMatrix(prefix + each.name, each.sources, each.compute, is_layers, groups if is_layers else None)


def _by_outputs(weight: Tensor, groups: int | None) -> Tensor:
    """Kernels of transposed convolutions are [in, out / groups, ...]; makes [out, in / groups, ...] of them."""
    return weight if groups is None else weight.reshape(groups, -1, *weight.shape[1:]).transpose(1, 2).flatten(0, 1)


def _whole(own: Tensor) -> Tensor:
    return own.full_tensor() if is_sharded(own) else own  # type: ignore[attr-defined]
