"""Reports of the iterates in the terms of loggers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from lightning_tailindex import figures
from lightning_tailindex.noise.groups import WHOLE_MODEL, listed
from lightning_tailindex.records import IterateMeasurement, IterateReport

from .names import largest, of_groups
from .pictures import rendered
from .presentation import Presentation
from .sink import MOST_LINES, Band, Lines, Picture

__all__ = ["IterateFigureName", "IteratePresentation"]

ALPHA, DETAIL = "iterate_tail_index", "iterate_tail_index_detail"
STEP_SIZE, RATIO, MINIBATCH = "sgd/step_size", "sgd/step_size_over_minibatch_size", "sgd/minibatch_size"

IterateFigureName = Literal["iterate_alphas"]

_REPLICAS = {
    "same": "the weights, the same in every process",
    "average": "the average of all replicas' weights",
    "each": "the average of all replicas' weights, and each replica's",
}


def _details(measurement: IterateMeasurement) -> Iterator[tuple[str, float]]:
    for estimate in measurement.estimates:
        tag = f"{DETAIL}/{estimate.what}"
        if not (math.isnan(estimate.low) and math.isnan(estimate.high)):  # some, such as surrogates, have none
            yield f"{tag}_low/{measurement.group}", estimate.low
            yield f"{tag}_high/{measurement.group}", estimate.high
        if estimate is not measurement.estimates[0]:  # the headline has a section of its own
            yield f"{tag}/{measurement.group}", estimate.alpha
    yield f"{DETAIL}/root_mean_square_deviation/{measurement.group}", measurement.deviation_norm


def _steps(report: IterateReport) -> Iterator[tuple[str, float]]:
    yield MINIBATCH, report.minibatch_size
    for group in report.parameter_groups:
        yield f"{STEP_SIZE}/{group.name}", group.step_size
        yield f"sgd/last_step_size/{group.name}", group.last_step_size
        yield f"sgd/{group.momentum_kind}/{group.name}", group.momentum
        yield f"{RATIO}/{group.name}", report.ratio(group)


def _detailed(report: IterateReport, most: int | None) -> list[IterateMeasurement]:
    """The largest groups, in the report's order, and the whole model."""
    *groups, whole = report.measurements
    chosen = largest({measurement.group: measurement.group_size for measurement in groups}, most)
    return [*(measurement for measurement in groups if measurement.group in chosen), whole]


@final
@dataclass(frozen=True)
class IteratePresentation(Presentation[IterateReport]):
    """How much of the iterates is logged, as the arguments of ``IterateTailIndexMonitor`` of the same names say.

    Attributes:
        figures: Names of the figures.
        figures_every: Windows between figures.
        max_detailed_groups: Groups logged in detail beside the whole model; None for all.
    """

    figures: tuple[IterateFigureName, ...]
    figures_every: int
    max_detailed_groups: int | None

    title: ClassVar[str] = "Tail index of the iterates"
    setup_tag: ClassVar[str] = "iterate_tail_index_setup"
    metrics: ClassVar[tuple[str, ...]] = (ALPHA,)  # type: ignore[misc]
    compared: ClassVar[tuple[str, ...]] = (f"{ALPHA}/{WHOLE_MODEL}", f"{DETAIL}/deviation/{WHOLE_MODEL}")

    def scalars(self, report: IterateReport) -> dict[str, float]:
        """Names the headline of all groups, every number of those logged in detail, and the steps behind them."""
        values = {f"{ALPHA}/{measurement.group}": measurement.alpha for measurement in report.measurements}
        for measurement in _detailed(report, self.max_detailed_groups):
            values.update(_details(measurement))
        values.update(_steps(report))
        values[f"{DETAIL}/cost_seconds/{report.whole_model.group}"] = report.seconds
        return values

    def monitored(self, report: IterateReport) -> dict[str, float]:
        """Names the whole model's headline."""
        return {ALPHA: report.whole_model.alpha}

    def charts(self, report: IterateReport) -> tuple[Lines | Band, ...]:
        """Lays out α over groups, the whole model's with its interval, and step sizes over the minibatch size."""
        shown = _detailed(report, MOST_LINES - 1)
        groups = of_groups(len(shown) - 1, len(report.measurements) - 1)
        whole = report.whole_model.group
        interval = tuple(f"{DETAIL}/{report.whole_model.estimates[0].what}_{end}/{whole}" for end in ("low", "high"))
        ratios = tuple(f"{RATIO}/{group.name}" for group in report.parameter_groups[:MOST_LINES])
        return (
            Lines(f"α of the whole model and {groups}", tuple(f"{ALPHA}/{m.group}" for m in shown)),
            Band("Whole model: α and its 95 % interval", ((f"{ALPHA}/{whole}", interval[0], interval[1]),)),
            *([Lines("Step size η over minibatch size b", ratios)] if ratios else []),
        )

    def setup(self, report: IterateReport) -> Mapping[str, str]:
        """Says of which weights and steps it is."""
        whole = report.whole_model
        names = ", ".join(group.name for group in report.parameter_groups)
        return {
            "measured": f"{len(report.measurements) - 1} groups and the whole model, of which"
            f" {whole.num_coordinates} of {whole.group_size} coordinates",
            "iterates": f"windows of {report.window} optimizer steps, {report.num_snapshots} snapshots in each",
            "replicas": _REPLICAS[report.replicas],
            "steps": f"minibatches of {report.minibatch_size:.6g} samples (0: unknown); parameter groups {names}",
            "to know": report.note,
        }

    def notes(self, report: IterateReport) -> dict[str, str]:
        """Says, too, which groups have no tail index, and why."""
        unknown: dict[str, list[str]] = {}
        for measurement in report.measurements:
            headline = measurement.estimates[0]
            if math.isnan(headline.alpha) and headline.note:
                unknown.setdefault(headline.note.rstrip("."), []).append(measurement.group)
        told = {
            f"no tail index of {names[0]}": f"no tail index of {listed(names)} at step {report.step}: {note}"
            for note, names in unknown.items()
        }
        return {**super().notes(report), **told}

    def picture(self, name: str, reports: Sequence[IterateReport]) -> dict[str, Picture]:
        """Draws the figure."""
        figure, _ = figures.iterate_alphas(reports)
        return {f"{ALPHA}_figures/{name}": rendered(figure)}
