"""Lightning is published under two names, ``lightning`` and ``pytorch_lightning``, whose classes are not the same.

What the package takes from Lightning comes from here: of whichever is installed, and where classes are concerned, of
both where both are.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

from lightning_utilities.core import rank_zero

__all__ = [
    "Callback",
    "DummyLogger",
    "LightningModule",
    "Logger",
    "MisconfigurationException",
    "PassThroughProfiler",
    "Strategy",
    "Trainer",
    "is_param_in_hook_signature",
    "move_data_to_device",
    "rank_zero_info",
    "rank_zero_warn",
]

_FABRICS = {"lightning.pytorch": "lightning.fabric", "pytorch_lightning": "lightning_fabric"}
"""Each Lightning with the Fabric that it builds on."""


def _load(name: str) -> ModuleType | None:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name not in (name, name.partition(".")[0]):
            raise  # it is installed, and something that it needs is not
        return None


def _installed() -> tuple[str, ...]:
    """Imports what is installed and names it; what the user imported before comes first.

    All of them write to one log, that of the last one imported, so it is given back to the first.
    """
    names: list[str] = []
    for name in sorted(_FABRICS, key=lambda name: name not in sys.modules):
        before = rank_zero.log, rank_zero.rank_zero_deprecation_category
        if _load(name) is not None:
            names.append(name)
        if len(names) > 1:
            rank_zero.log, rank_zero.rank_zero_deprecation_category = before
    if not names:
        raise ModuleNotFoundError("lightning_tailindex needs lightning or pytorch_lightning, and finds neither.")
    return tuple(names)


if TYPE_CHECKING:
    from lightning.fabric.utilities.apply_func import move_data_to_device
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.fabric.utilities.rank_zero import rank_zero_info, rank_zero_warn
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.loggers.logger import DummyLogger, Logger
    from lightning.pytorch.profilers import PassThroughProfiler
    from lightning.pytorch.strategies import Strategy
    from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
else:
    _NAMES = _installed()
    _PACKAGE, _FABRIC = _NAMES[0], _FABRICS[_NAMES[0]]

    def _all(part: str, class_name: str) -> tuple[type, ...]:
        return tuple(getattr(import_module(f"{name}.{part}"), class_name) for name in _NAMES)

    class Callback(*_all("callbacks", "Callback")):
        """A callback for the Trainer of every Lightning that is installed."""

    class DummyLogger(*_all("loggers.logger", "DummyLogger")):
        """A logger of every Lightning that is installed, which logs nothing."""

    class MisconfigurationException(*_all("utilities.exceptions", "MisconfigurationException")):
        """The exception of every Lightning that is installed."""

    LightningModule = import_module(_PACKAGE).LightningModule
    Trainer = import_module(_PACKAGE).Trainer
    Logger = import_module(f"{_PACKAGE}.loggers.logger").Logger
    PassThroughProfiler = import_module(f"{_PACKAGE}.profilers").PassThroughProfiler
    Strategy = import_module(f"{_PACKAGE}.strategies").Strategy
    is_param_in_hook_signature = import_module(f"{_PACKAGE}.utilities.signature_utils").is_param_in_hook_signature
    move_data_to_device = import_module(f"{_FABRIC}.utilities.apply_func").move_data_to_device
    rank_zero_info = import_module(f"{_FABRIC}.utilities.rank_zero").rank_zero_info
    rank_zero_warn = import_module(f"{_FABRIC}.utilities.rank_zero").rank_zero_warn
