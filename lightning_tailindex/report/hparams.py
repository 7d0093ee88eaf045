"""The hyperparameters that Lightning keeps beside an event file, as plain values."""

from __future__ import annotations

import math
from pathlib import Path
from reprlib import Repr
from typing import Any

import yaml

__all__ = ["FILE", "Value", "plain", "read_hparams"]

FILE = "hparams.yaml"
"""The name that Lightning gives the file."""

Value = str | int | float
"""A hyperparameter: a number, or a word."""

_LIGHTNINGS = "_instantiator"  # what LightningCLI writes beside the module's own
_DEEPEST = 4  # dictionaries in dictionaries
_LONGEST = 120  # characters of a word

_short = Repr()
_short.maxstring = _short.maxother = _LONGEST
_short.maxlist = _short.maxtuple = _short.maxdict = 12


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Takes objects of Python for what they are written as, and never makes them."""


def _written(loader: yaml.SafeLoader, tag: str, node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return node.value or tag


_Loader.add_multi_constructor("", _written)


def plain(value: object) -> Value:
    """Turns a value into a number or a short word.

    Example:
        >>> plain(0.1), plain(True), plain([64, 64]), plain(None)
        (0.1, 'True', '[64, 64]', 'None')
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool) and _is_finite(value):
        return value
    text = value if isinstance(value, str) else _short.repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number above all floats
        return False


def _flat(values: dict[Any, Any], before: str = "", deep: int = 1) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for key, value in values.items():
        name = f"{before}{plain(key)}"
        if isinstance(value, dict) and value and deep < _DEEPEST:
            found.update(_flat(value, f"{name}/", deep + 1))
        else:
            found[name] = plain(value)
    return found


def read_hparams(folder: Path) -> tuple[dict[str, Value], str]:
    """Reads what Lightning wrote of a run's hyperparameters.

    Args:
        folder: The folder of the run's event files.

    Returns:
        The values by name, those in dictionaries as ``outer/inner``, and what is wrong with the file, in words; both
        empty where there is no file.
    """
    path = folder / FILE
    if not path.exists():
        return {}, ""
    try:
        loaded = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
        if loaded is not None and not isinstance(loaded, dict):
            return {}, f"{path}: hyperparameters are no names with values"
        return _flat({name: value for name, value in (loaded or {}).items() if name != _LIGHTNINGS}), ""
    except Exception as error:  # whatever the file holds, the events beside it are read
        return {}, f"{path}: hyperparameters cannot be read: {type(error).__name__}"
