"""Which weights a distance is from, and those of a module that are compared with them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lightning_tailindex.noise.groups import listed
from lightning_tailindex.weights import shaped_parameters

__all__ = ["checked_reference", "followed_weights", "in_words", "is_read", "unlike", "why_none"]


def checked_reference(reference: int | str | Path) -> int | str:
    """Returns a reference, a path as a string; refuses what names no weights.

    Raises:
        ValueError: If it is none of "start", an optimizer step and the path of a file.
    """
    named = str(reference) if isinstance(reference, Path) else reference
    is_step = isinstance(named, int) and not isinstance(named, bool) and named >= 0
    is_place = isinstance(named, str) and (named == "start" or Path(named).is_file())
    if not is_step and not is_place:
        rule = "'start', an optimizer step of at least 0, or the path of a checkpoint"
        why = ": there is no such file" if isinstance(named, str) else ""
        raise ValueError(f"reference must be {rule}, got {named!r}{why}.")
    return named


def is_read(reference: int | str) -> bool:
    """Whether it is in a file."""
    return isinstance(reference, str) and reference != "start"


def in_words(reference: int | str) -> str:
    """Says which weights it is."""
    if isinstance(reference, int):
        return f"weights after {reference} optimizer steps"
    return "weights at the start of training" if reference == "start" else f"weights in {reference}"


def why_none(reference: int | str, step: int) -> str:
    """Says why there is no reference at a step."""
    if isinstance(reference, int) and step < reference:
        return "no distance: the step of the reference is not reached yet"
    return f"no distance: the {in_words(reference)}, the reference, were not seen"


def unlike(module: nn.Module, reference: Mapping[str, Tensor]) -> list[str]:
    """Lists the weights of a reference that a module does not have, or has in another shape."""
    shapes = {name: each.shape for name, each in module.named_parameters() if not is_lazy(each)}
    return [name for name, each in reference.items() if shapes.get(name) != each.shape]


def followed_weights(module: nn.Module, reference: Mapping[str, Tensor]) -> dict[str, nn.Parameter]:
    """Lists the weights of a module that are followed.

    Args:
        module: The module.
        reference: The reference; empty where there is none yet.

    Returns:
        Those of the reference, or all that could be one.

    Raises:
        ValueError: If some of the reference are not there.
    """
    gone = unlike(module, reference)
    if gone:
        what = "weights of the reference are no longer in the module, or renamed, or of another shape"
        raise ValueError(f"{what}: {listed(gone)}.")
    own = dict(module.named_parameters())
    return {name: own[name] for name in reference} if reference else shaped_parameters(module)
