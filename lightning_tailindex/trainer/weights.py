"""Weights under the strategies of a trainer, and those of its checkpoints."""

from __future__ import annotations

import pickle
from collections.abc import Mapping

import torch
from torch import Tensor

from lightning_tailindex.noise.groups import listed

from .flavour import MisconfigurationException, Trainer
from .state import may_shard, reason_against_strategy

__all__ = ["check_weights", "weights_of_checkpoint"]


def check_weights(trainer: Trainer, *, of_shards: bool) -> None:
    """Refuses strategies under which weights cannot be measured, before training starts.

    Args:
        trainer: The trainer.
        of_shards: Whether they can be measured where processes have shards of them.

    Raises:
        MisconfigurationException: If the strategy keeps weights in another way.
    """
    reason = reason_against_strategy(trainer)
    if reason is None and may_shard(trainer) and not of_shards:
        reason = "processes have shards of them. Use a single device or DDP"
    if reason is not None:
        name = type(trainer.strategy).__name__
        raise MisconfigurationException(f"The weights cannot be measured under {name}: {reason}.")


def weights_of_checkpoint(path: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Reads weights from a checkpoint of Lightning, or a file that holds a module's state.

    A file may run whatever it likes while objects in it are loaded, so none are: of a checkpoint whose hyperparameters
    are more than numbers, texts and their lists, the weights have to be saved alone.

    Args:
        path: Path of the file.
        weights: The weights that are wanted, by name.

    Returns:
        Weights of the same names and shapes, on the same devices.

    Raises:
        ValueError: If the file holds other objects than tensors and plain values, or some weights are missing or of
            another shape.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        rule = "a file of tensors and plain values, for safety no other objects are loaded"
        advice = 'Save the weights alone: torch.save(module.state_dict(), "weights.pt")'
        raise ValueError(f"reference must be {rule}, got {path!r}. {advice}.") from error
    except (EOFError, RuntimeError) as error:
        raise ValueError(f"reference must be a file of tensors, {path!r} cannot be read: {error!r}.") from error
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping):
        raise ValueError(f"reference must be a file of weights by name, got {path!r} of {type(content).__name__}.")
    wrong = [name for name, weight in weights.items() if getattr(state.get(name), "shape", None) != weight.shape]
    if wrong:
        lacking = listed(wrong)
        raise ValueError(f"reference must hold weights of the module's names and shapes, {path!r} lacks {lacking}.")
    return {name: state[name].to(weight.device) for name, weight in weights.items()}
