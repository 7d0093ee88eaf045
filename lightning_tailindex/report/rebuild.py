"""Reports again, from what was logged of them."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Collection
from dataclasses import fields, replace
from typing import Any

from lightning_tailindex.loggers.noise import ALL_DIFFERENT, DATA, HEADLINE, NoisePresentation
from lightning_tailindex.loggers.sink import LINE_BREAK
from lightning_tailindex.records import AggregatedTailIndex, Histogram, Measurement, Report
from lightning_tailindex.records.notes import joined

from .events import Events
from .names import HISTOGRAMS, LAWS, Meaning, meaning

__all__ = ["rebuilt", "rows_of_table"]

# A measurement of which nothing was logged.
_NOTHING: dict[str, Any] = {
    **{f.name: 0 if f.type == "int" else math.nan for f in fields(Measurement) if f.type in ("int", "float")},
    **dict.fromkeys(HISTOGRAMS, Histogram((0.0, 1.0), (0,), 0.0, 0.0)),
    **{"law": "", "aggregated": (), "note": ""},
}


def _by_step(events: Events) -> dict[int, dict[Meaning, Any]]:
    found: dict[int, dict[Meaning, Any]] = defaultdict(dict)
    logged: list[tuple[str, dict[int, Any]]] = [*events.scalars.items(), *events.histograms.items()]
    for tag, values in logged:
        meant = meaning(tag)
        if meant is not None:
            for step, value in values.items():
                # others may have logged a number where we log a histogram
                if isinstance(value, Histogram) is (meant.field in HISTOGRAMS):
                    found[step][meant] = value
    return found


def rows_of_table(markdown: str) -> list[list[str]]:
    r"""Finds the cells of a table in Markdown, the titles of its columns first.

    Example:
        >>> rows_of_table("| group | law |\n|---|---|\n| a\\|b | stable<br>or not |")
        [['group', 'law'], ['a|b', 'stable or not']]
    """
    lines = [line.strip() for line in markdown.splitlines() if line.strip().startswith("|")]
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines if set(line) - set("|-: ")]
    return [[cell.strip().replace("\\|", "|").replace(LINE_BREAK, " ") for cell in row] for row in rows]


def _laws(events: Events, step: int) -> dict[str, tuple[str, str]]:
    """The best law of each group, and the note."""
    rows = rows_of_table(events.texts.get(LAWS, {}).get(step, ""))[1:]
    return {row[0]: (row[1], row[-1]) for row in rows if len(row) > 2}


def _first_estimator(events: Events) -> str:
    """The name of the first estimator, from what the monitor said of the measurement."""
    texts = events.texts.get(NoisePresentation.setup_tag, {}).values()
    named = [row[1] for text in texts for row in rows_of_table(text) if len(row) > 1 and row[0] == HEADLINE]
    return named[-1] if named else "the run's first estimator"


def _note(events: Events, step: int) -> str:
    """The note of a report, which the monitor said with the first one since the run was started or resumed."""
    texts = {at: text for at, text in events.texts.get(NoisePresentation.setup_tag, {}).items() if at <= step}
    rows = rows_of_table(texts[max(texts)]) if texts else []
    said = [row[1] for row in rows if len(row) > 1 and row[0] == DATA]
    return said[0] if said and said[0] != ALL_DIFFERENT else ""


def _averages(found: dict[Meaning, Any], num_draws: int) -> tuple[AggregatedTailIndex, ...]:
    values: dict[int, dict[str, float]] = defaultdict(dict)
    for meant, value in found.items():
        if meant.record == "aggregated" and meant.num_minibatches > 1:
            values[meant.num_minibatches][meant.field] = value
    nothing = {"alpha": math.nan, "low": math.nan, "high": math.nan, "gaussian_alpha": math.nan}
    return tuple(
        AggregatedTailIndex(size, num_draws // size, **{**nothing, **own}) for size, own in sorted(values.items())
    )


def _first(group: str, found: dict[Meaning, Any], estimator: str, law: str, note: str, num_draws: int) -> Measurement:
    known = {m.field: value for m, value in found.items() if m.record == "first"}
    return replace(
        _measurement(group, estimator, known, num_draws), law=law, note=note, aggregated=_averages(found, num_draws)
    )


def _further(group: str, found: dict[Meaning, Any], num_draws: int) -> list[Measurement]:
    known: dict[str, dict[str, Any]] = defaultdict(dict)
    for meant, value in found.items():
        if meant.record == "further":
            known[meant.estimator][meant.field] = value
    return [_measurement(group, name, own, num_draws) for name, own in known.items() if "alpha" in own]


def _measurement(group: str, estimator: str, known: dict[str, Any], num_draws: int) -> Measurement:
    own = {**_NOTHING, **known, "group": group, "estimator": estimator, "num_draws": num_draws}
    return Measurement(**own)


def _report(
    step: int, found: dict[Meaning, Any], whole: str, laws: dict[str, tuple[str, str]], estimator: str
) -> Report | None:
    """The report of a step; None if the tail index of the whole model, which is logged last, is not there."""
    groups: dict[str, dict[Meaning, Any]] = defaultdict(dict)
    for meant, value in found.items():
        groups[meant.group][meant] = value
    if Meaning("first", "alpha", whole) not in groups.get(whole, {}):
        return None
    of_all = {m.field: value for m, value in groups[whole].items() if m.record == "report"}
    num_draws = _count(groups[whole].get(Meaning("first", "num_draws", whole), 0.0))
    measurements: list[Measurement] = []
    for group in [*(name for name in groups if name != whole), whole]:
        own = groups[group]
        if Meaning("first", "alpha", group) in own:
            measurements.append(_first(group, own, estimator, *laws.get(group, ("", "")), num_draws))
            measurements.extend(_further(group, own, num_draws))
    report = Report(step, tuple(measurements), num_full_minibatches=0, minibatch_size=0, seconds=math.nan)
    return replace(report, **{**of_all, "minibatch_size": _count(of_all.get("minibatch_size", 0.0))})


def _count(value: float) -> int:
    """Makes a whole number of one in a file; 0, as where it is not there, of what is none."""
    return int(value) if math.isfinite(value) else 0


def rebuilt(events: Events) -> tuple[list[Report], str]:
    """Rebuilds the reports of a run; what was not logged is NaN, 0, empty or without values.

    Args:
        events: What the run's files hold.

    Returns:
        The reports by step, and which steps were left out because they are incomplete or of an abandoned branch, in
        words.
    """
    steps = _by_step(events)
    wholes = [meant.group for found in steps.values() for meant in found if meant.record == "report"]
    last = [m.group for found in steps.values() for m in found if (m.record, m.field) == ("first", "alpha")]
    if not last:
        return [], ""
    whole = (wholes or last)[-1]
    estimator = _first_estimator(events)
    found = {step: _report(step, steps[step], whole, _laws(events, step), estimator) for step in sorted(steps)}
    left_out = [str(step) for step, report in found.items() if report is None]
    problem = f"no tail index of the whole model at step {', '.join(left_out)}, left out" if left_out else ""
    reports = [replace(report, note=_note(events, step)) for step, report in found.items() if report is not None]
    return reports, joined(problem, _abandoned(events, found))


def _abandoned(events: Events, held: Collection[int]) -> str:
    """Says which reports are of a branch that the run went back from, unless it came to their steps again."""
    left_out = {step: again for step, again in events.dropped.items() if step not in held}
    if not left_out:
        return ""
    steps = ", ".join(map(str, sorted(left_out)))
    again = min(left_out.values())
    return f"the run went back to step {again} or earlier: the reports of step {steps}, measured before, were left out"
