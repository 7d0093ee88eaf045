"""Which field of a report a tag is of: the loggers' names, read backwards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache, lru_cache
from typing import Any

from lightning_tailindex.loggers import histograms, laws, scalars
from lightning_tailindex.records import AggregatedTailIndex, Histogram, Measurement, Report

__all__ = ["HISTOGRAMS", "LAWS", "Meaning", "is_ours", "meaning"]

HISTOGRAMS = ("coordinate_alphas", "standardized_noise")
"""Fields of a measurement that are histograms."""

_GROUP, _ESTIMATOR, _FIRST, _SIZE = "GROUP", "ESTIMATOR", "FIRST", 7919
# Lightning's loggers put their prefix, if they have one, before every scalar's tag.
_PREFIX = "(?:[^/]*-)?"


@dataclass(frozen=True)
class Meaning:
    """What a tag is of.

    Attributes:
        record: "first" or "further" for a measurement by the first or by a further estimator, "aggregated" for averages
            of minibatches, or "report".
        field: The field of that record.
        group: The group.
        estimator: The further estimator; empty otherwise.
        num_minibatches: How many minibatches were averaged; 1 otherwise.
    """

    record: str
    field: str
    group: str
    estimator: str = ""
    num_minibatches: int = 1


def _numbered(kind: type, record: str, start: int, found: dict[float, tuple[str, str]]) -> dict[str, Any]:
    """Gives every number of a record a value that no other has."""
    names = [field.name for field in fields(kind) if field.type in ("float", "int")]
    found.update({float(start + i): (record, name) for i, name in enumerate(names)})
    return {name: start + i for i, name in enumerate(names)}


def _probe() -> tuple[Report, dict[float, tuple[str, str]]]:
    """A report in which every number tells its field, so that what loggers call it tells the name of the field."""
    meant: dict[float, tuple[str, str]] = {}
    average = _numbered(AggregatedTailIndex, "aggregated", 1000, meant) | {"num_minibatches": _SIZE}
    rest: dict[str, Any] = {"group": _GROUP, "law": "", "note": ""}
    rest |= {field: Histogram((0.0, 1.0), (1,), 0.0, 0.0) for field in HISTOGRAMS}
    first = Measurement(
        **_numbered(Measurement, "first", 2000, meant),
        **rest,
        estimator=_FIRST,
        aggregated=(AggregatedTailIndex(**average),),
    )
    further = Measurement(**_numbered(Measurement, "further", 3000, meant), **rest, estimator=_ESTIMATOR, aggregated=())
    return Report(measurements=(first, further), **_numbered(Report, "report", 4000, meant)), meant


def _pattern(tag: str) -> re.Pattern[str]:
    text = re.escape(tag).replace(str(_SIZE), r"(?P<size>\d{1,9})")
    return re.compile(_PREFIX + text.replace(_ESTIMATOR, "(?P<estimator>[^/]+)").replace(_GROUP, "(?P<group>.+)"), re.S)


@cache
def _patterns() -> tuple[tuple[re.Pattern[str], str, str], ...]:
    """Every pattern with its record and field; those of further estimators, which take any name, come last."""
    report, meant = _probe()
    # what is computed from fields, as the signal-to-noise ratio is, has a number that none of them has
    known = [(tag, *meant[number]) for tag, number in scalars(report).items() if number in meant]
    for field in HISTOGRAMS:
        histogram = getattr(report.whole_model, field)
        known += [(tag, "first", field) for tag, value in histograms(report).items() if value is histogram]
    known.sort(key=lambda each: (_ESTIMATOR in each[0], -len(each[0])))
    return tuple((_pattern(tag), record, field) for tag, record, field in known)


def _found(tag: str) -> Iterator[Meaning]:
    for pattern, record, field in _patterns():
        match = pattern.fullmatch(tag)
        if match:
            parts = match.groupdict()
            yield Meaning(record, field, parts["group"], parts.get("estimator") or "", int(parts.get("size") or 1))


@lru_cache(maxsize=2**14)  # a file has the same tags at every step
def meaning(tag: str) -> Meaning | None:
    """Finds what a tag is of.

    Args:
        tag: Tag of a scalar or of a histogram, with the logger's prefix if it has one.

    Returns:
        The field; None if the tag is none of ours, or is of a number that follows from others.

    Example:
        >>> meaning("tail_index_detail/low/conv1")
        Meaning(record='first', field='low', group='conv1', estimator='', num_minibatches=1)
    """
    return next(_found(tag), None)


@cache
def _first_parts() -> frozenset[str]:
    return frozenset(tag.split("/")[0] for tag in scalars(_probe()[0]))


def is_ours(tag: str) -> bool:
    """Tells whether a text of such a tag says something of a measurement.

    Example:
        >>> is_ours("tail_index_setup"), is_ours("loss")
        (True, False)
    """
    return tag.startswith(tuple(_first_parts()))


(LAWS,) = laws(_probe()[0])
"""Tag of the text which law fits the noise of each group."""
