"""Which measurements of which reports are drawn, and what several of them say together."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from statistics import median

from lightning_tailindex.noise.groups import listed
from lightning_tailindex.records import Measurement, Report, ReportT

__all__ = [
    "by_group",
    "by_step",
    "check_kind",
    "checked_group",
    "chosen_groups",
    "few_enough",
    "in_order",
    "lowest",
    "median_alpha",
    "names_of_groups",
]

_MOST_REPORTS = 100
"""In one figure: drawing time does not grow with the length of training."""


def check_kind(function: str, given: object, *kinds: type) -> None:
    """Refuses what is of none of these kinds."""
    if not isinstance(given, kinds):
        wanted = " or ".join(f"{'an' if kind.__name__[0] in 'AEIO' else 'a'} {kind.__name__}" for kind in kinds)
        raise TypeError(f"{function} needs {wanted}, got {reprlib.repr(given)}.")


def by_step(function: str, kind: type[ReportT], reports: ReportT | Iterable[ReportT]) -> list[ReportT]:
    """Sorts one or several reports of a kind by their steps."""
    several = list(reports) if isinstance(reports, Iterable) else [reports]
    if not several:
        raise ValueError(f"{function} needs at least one report, got {reports!r}.")
    for report in several:
        check_kind(function, report, kind)
    return sorted(several, key=lambda report: report.step)


def in_order(function: str, reports: Report | Sequence[Report]) -> list[Report]:
    """Sorts one or several reports by their steps; a report without measurements is none."""
    several = by_step(function, Report, reports)
    empty = [report.step for report in several if not report.measurements]
    if empty:
        raise ValueError(f"{function} needs reports with measurements, got none at step {empty[0]}.")
    return several


def few_enough(reports: Sequence[ReportT]) -> Sequence[ReportT]:
    """Leaves no more than a hundred reports, evenly many between them left out, the last one kept."""
    stride = -(-len(reports) // _MOST_REPORTS)
    return reports[::-1][:: max(stride, 1)][::-1]


def median_alpha(measurements: Iterable[Measurement]) -> float:
    """Finds the median of the tail indices that there are; NaN if there is none."""
    known = [m.alpha for m in measurements if not math.isnan(m.alpha)]
    return median(known) if known else math.nan


def by_group(report: Report) -> dict[str, Measurement]:
    """Finds what the first estimator of a report says of each group."""
    return {m.group: m for m in report.headline}


def names_of_groups(reports: Sequence[Report]) -> list[str]:
    """Finds the groups of all reports in their order, the whole model last."""
    names = dict.fromkeys(group for report in reports for group in by_group(report))
    whole = reports[-1].whole_model.group
    return [*(name for name in names if name != whole), whole]


def checked_group(function: str, reports: Sequence[Report], group: str | None) -> str:
    """Returns the group that was asked for, the whole model if none was."""
    names = names_of_groups(reports)
    return names[-1] if group is None else _known(function, names, [group])[0]


def _known(function: str, names: Sequence[str], groups: Sequence[str]) -> list[str]:
    known = set(names)
    for group in groups:
        if group not in known:
            raise ValueError(f"{function} needs a group among {listed(names)}, got {group!r}.")
    return list(groups)


def chosen_groups(function: str, reports: Sequence[Report], groups: Sequence[str] | None, most: int) -> list[str]:
    """Returns the groups asked for; if none were, those of the lowest tail index and, last, the whole model."""
    if most < 1:
        raise ValueError(f"{function} needs most to be at least 1, got {most}.")
    names = names_of_groups(reports)
    if groups is not None:
        if isinstance(groups, str) or not groups:
            raise ValueError(f"{function} needs groups to be one or several names in a list, got {groups!r}.")
        return _known(function, names, groups)
    last = dict.fromkeys(names, math.nan)
    for report in reports:
        last |= {m.group: m.alpha for m in report.headline if not math.isnan(m.alpha)}
    whole = names[-1]
    return [*lowest({name: alpha for name, alpha in last.items() if name != whole}, most), whole]


def lowest(alphas: Mapping[str, float], most: int) -> list[str]:
    """Returns those of the lowest tail indices in the order given; one that is unknown comes after all others."""
    chosen = set(sorted(alphas, key=lambda name: math.inf if math.isnan(alphas[name]) else alphas[name])[:most])
    return [name for name in alphas if name in chosen]
