"""Reports of the gradient noise in the terms of loggers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, final

from lightning_tailindex.noise.groups import WHOLE_MODEL, listed
from lightning_tailindex.records import Histogram, Report

from .charts import charts
from .names import ALPHA, GAUSSIAN_ALPHA, detailed_groups, histograms, laws, monitored, scalars
from .pictures import FigureName, picture
from .presentation import Presentation
from .sink import Band, Lines, Picture, Table

__all__ = ["ALL_DIFFERENT", "DATA", "HEADLINE", "NoisePresentation"]

_UNITS = {"step": "what an optimizer step consumes", "loader": "one loader batch of one rank"}


HEADLINE = "headline"
"""What the setup calls the estimator that says the tail index."""

DATA = "data"
"""What the setup calls the note of the report."""

ALL_DIFFERENT = "no two draws share data"
"""What the setup says of a report without a note."""


@final
@dataclass(frozen=True)
class NoisePresentation(Presentation[Report]):
    """How much of the gradient noise is logged, as the arguments of ``TailIndexMonitor`` of the same names say.

    Attributes:
        figures: Names of the figures.
        figures_every: Measurements between figures.
        max_detailed_groups: Groups logged in detail beside the whole model; None for all.
    """

    figures: tuple[FigureName, ...]
    figures_every: int
    max_detailed_groups: int | None

    title: ClassVar[str] = "Tail index of the gradient noise"
    setup_tag: ClassVar[str] = "tail_index_setup"
    metrics: ClassVar[tuple[str, ...]] = (ALPHA, GAUSSIAN_ALPHA)  # type: ignore[misc]
    compared: ClassVar[tuple[str, ...]] = (f"{ALPHA}/{WHOLE_MODEL}", f"{GAUSSIAN_ALPHA}/{WHOLE_MODEL}")

    def scalars(self, report: Report) -> dict[str, float]:
        """Names the tail indices of all groups, and every number of those logged in detail."""
        return scalars(report, detailed_groups(report, self.max_detailed_groups))

    def monitored(self, report: Report) -> dict[str, float]:
        """Names the whole model's tail index and its surrogate's."""
        return monitored(report)

    def histograms(self, report: Report) -> dict[str, Histogram]:
        """Names the histograms of the groups logged in detail."""
        return histograms(report, detailed_groups(report, self.max_detailed_groups))

    def tables(self, report: Report) -> dict[str, Table]:
        """Names the table of the laws that fit best."""
        return laws(report)

    def notes(self, report: Report) -> dict[str, str]:
        """Says, too, which groups have no tail index, and why; of a further estimator, where the first one has one."""
        unknown: dict[tuple[str, str], list[str]] = {}
        silent = {each.group for each in report.headline if math.isnan(each.alpha)}
        first = report.whole_model.estimator
        for each in report.measurements:
            by = "" if each.estimator == first else f" by {each.estimator}"
            if math.isnan(each.alpha) and each.note and not (by and each.group in silent):
                unknown.setdefault((by, each.note.rstrip(".")), []).append(each.group)
        told = {
            f"no tail index of {names[0]}{by}": f"no tail index of {listed(names)}{by} at step {report.step}: {note}"
            for (by, note), names in unknown.items()
        }
        return {**super().notes(report), **told}

    def charts(self, report: Report) -> tuple[Lines | Band, ...]:
        """Lays out the tail index over groups, with its interval, and over aggregated minibatches."""
        return charts(report)

    def setup(self, report: Report) -> Mapping[str, str]:
        """Says which draws were taken of how much of the model."""
        whole, groups = report.whole_model, len(report.headline) - 1
        size = f"{report.minibatch_size} samples" if report.minibatch_size else "unknown size"
        is_of_training = report.num_full_minibatches == 0 and whole.num_draws > 0
        full = "the mean of training's own" if is_of_training else f"{report.num_full_minibatches} minibatches"
        return {
            "measured": f"{groups} groups; {whole.num_coordinates} of the whole model's {whole.group_size} coordinates",
            "draws": f"{whole.num_draws} minibatches of {size}; a draw is {_UNITS[report.noise_unit]}",
            "full gradient": full,
            DATA: report.note or ALL_DIFFERENT,
            "estimators": ", ".join(dict.fromkeys(m.estimator for m in report.measurements)),
            HEADLINE: whole.estimator,
        }

    def picture(self, name: str, reports: Sequence[Report]) -> dict[str, Picture]:
        """Draws one of the figures."""
        return picture(name, reports)
