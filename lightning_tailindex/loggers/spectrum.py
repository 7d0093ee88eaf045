"""Reports of the spectra of weight matrices in the terms of loggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from lightning_tailindex import figures
from lightning_tailindex.noise.groups import WHOLE_MODEL
from lightning_tailindex.records import Histogram, SpectrumMeasurement, SpectrumReport

from .names import largest
from .pictures import rendered
from .presentation import Presentation
from .sink import MOST_LINES, Band, Lines, Picture, Table

__all__ = ["SpectrumFigureName", "SpectrumPresentation"]

SpectrumFigureName = Literal["weight_spectrum"]

_EXPONENT, _DETAIL = "weight_density_exponent", "weight_spectrum"
_DETAILS = (
    "standard_error",
    "x_min",
    "num_tail",
    "kolmogorov_distance",
    "weighted_exponent",
    "largest_eigenvalue",
    "spectral_norm",
    "stable_rank",
    "rank",
    "log_norm",
    "entropy",
)
"""What is logged of a matrix beside its exponent, as the fields of a measurement are called."""

_MOST_PICTURES = 4


@final
@dataclass(frozen=True)
class SpectrumPresentation(Presentation[SpectrumReport]):
    """How much of the spectra is logged, as the arguments of ``WeightSpectrumMonitor`` of the same names say.

    Attributes:
        figures: Names of the figures.
        figures_every: Measurements between figures.
        max_detailed_matrices: Matrices, the largest, that are logged in detail; None for all.
    """

    figures: tuple[SpectrumFigureName, ...]
    figures_every: int
    max_detailed_matrices: int | None

    title: ClassVar[str] = "Spectra of the weight matrices"
    setup_tag: ClassVar[str] = "weight_spectrum_setup"
    metrics: ClassVar[tuple[str, ...]] = (_EXPONENT,)  # type: ignore[misc]
    compared: ClassVar[tuple[str, ...]] = (f"{_EXPONENT}/{WHOLE_MODEL}",)

    def scalars(self, report: SpectrumReport) -> dict[str, float]:
        """Names the density exponents of all matrices, and every number of those logged in detail."""
        values = {f"{_EXPONENT}/{m.matrix}": m.density_exponent for m in report.matrices}
        values[f"{_EXPONENT}/{WHOLE_MODEL}"] = report.median_density_exponent
        for measurement in self._detailed(report):
            values |= {f"{_DETAIL}/{name}/{measurement.matrix}": getattr(measurement, name) for name in _DETAILS}
        values[f"{_DETAIL}/cost_seconds/{WHOLE_MODEL}"] = report.seconds
        return values

    def monitored(self, report: SpectrumReport) -> dict[str, float]:
        """Names the median of the density exponents."""
        return {_EXPONENT: report.median_density_exponent}

    def histograms(self, report: SpectrumReport) -> dict[str, Histogram]:
        """Names the histograms of the matrices logged in detail."""
        found = {f"weight_eigenvalues_log10/{m.matrix}": m.log_eigenvalues for m in self._detailed(report)}
        return {tag: histogram for tag, histogram in found.items() if any(histogram.counts)}

    def tables(self, report: SpectrumReport) -> dict[str, Table]:
        """Names the table of the fits, with their notes."""
        rows = tuple(
            (
                m.matrix,
                " × ".join(map(str, m.shape)),
                f"{m.density_exponent:.2f} ± {m.standard_error:.2f}",
                f"{m.num_tail} of {m.num_eigenvalues}",
                f"{m.kolmogorov_distance:.3f}",
                m.note,
            )
            for m in report.matrices
        )
        columns = ("matrix", "shape", "density exponent", "eigenvalues in the tail", "Kolmogorov distance", "note")
        return {"weight_spectrum_fit": Table(columns, rows)}

    def charts(self, report: SpectrumReport) -> tuple[Lines | Band, ...]:
        """Lays out the density exponent and the stable rank over the largest matrices."""
        most = min(MOST_LINES, self.max_detailed_matrices or MOST_LINES)
        names, total = [m.matrix for m in _largest(report, most)], len(report.matrices)
        shown = f"the {len(names)} largest of {total} matrices" if len(names) < total else "the matrices"
        return (
            Lines(f"Density exponent of {shown}", tuple(f"{_EXPONENT}/{name}" for name in names)),
            Lines(f"Stable rank of {shown}", tuple(f"{_DETAIL}/stable_rank/{name}" for name in names)),
        )

    def setup(self, report: SpectrumReport) -> Mapping[str, str]:
        """Says which matrices were measured."""
        number, size = len(report.matrices), sum(m.size for m in report.matrices)
        return {
            "measured": f"{number} {'matrix' if number == 1 else 'matrices'} of {size} weights",
            "eigenvalues": "squared singular values; those within rounding are zeros",
            "density exponent": "of the eigenvalues' density, as WeightWatcher's alpha; no tail index",
            "left out": report.note or "none",
        }

    def picture(self, name: str, reports: Sequence[SpectrumReport]) -> dict[str, Picture]:
        """Draws the last spectra of the four largest matrices, or of fewer where fewer are logged in detail."""
        most = min(_MOST_PICTURES, self.max_detailed_matrices or _MOST_PICTURES)
        shown = [m for m in _largest(reports[-1], most) if any(m.log_eigenvalues.counts)]
        return {f"{_DETAIL}_figures/{m.matrix}": rendered(figures.weight_spectrum(m)[0]) for m in shown}

    def _detailed(self, report: SpectrumReport) -> tuple[SpectrumMeasurement, ...]:
        return _largest(report, self.max_detailed_matrices)


def _largest(report: SpectrumReport, most: int | None) -> tuple[SpectrumMeasurement, ...]:
    chosen = largest({m.matrix: m.size for m in report.matrices}, most)
    return tuple(m for m in report.matrices if m.matrix in chosen)
