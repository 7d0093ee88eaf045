"""Reports as plain types, which a checkpoint holds and every reader of checkpoints trusts, and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

from .report import ReportT

__all__ = ["from_plain", "to_plain"]


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def to_plain(report: Any) -> dict[str, Any]:
    """Turns a report into dictionaries, lists, strings and numbers.

    Args:
        report: The report.

    Returns:
        Its fields by name, records in them as dictionaries and tuples as lists; :func:`from_plain` is the way back.
    """
    plain: dict[str, Any] = _plain(report)
    return plain


def _record(kind: type, plain: Mapping[str, Any]) -> Any:
    hints = get_type_hints(kind)
    known = [field for field in fields(kind) if field.name in plain]
    missing = [f.name for f in fields(kind) if f.name not in plain and f.default is MISSING]
    if missing:
        raise ValueError(f"a {kind.__name__} needs its fields {missing}, got those named {sorted(plain)}.")
    return kind(**{field.name: _typed(hints[field.name], plain[field.name]) for field in known})


def _typed(hint: Any, plain: Any) -> Any:
    if is_dataclass(hint):
        assert isinstance(hint, type)
        return _record(hint, plain)
    if get_origin(hint) is tuple:
        element, *_ = get_args(hint)
        return tuple(_typed(element, item) for item in plain) if is_dataclass(element) else tuple(plain)
    return plain


def from_plain(kind: type[ReportT], plain: Mapping[str, Any]) -> ReportT:
    """Turns what :func:`to_plain` returned into the report that it was.

    Args:
        kind: The class of the report.
        plain: The fields by name. Names that a report does not have are passed over, as another version may have
            written them.

    Returns:
        The report.

    Raises:
        ValueError: If a field is missing that has no default.
    """
    report = _record(kind, plain)
    assert isinstance(report, kind)
    return report
