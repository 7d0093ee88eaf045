"""Reports of the curvature in the terms of loggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, final

from lightning_tailindex import figures
from lightning_tailindex.records import SharpnessReport

from .pictures import rendered
from .presentation import Presentation
from .sink import MOST_LINES, Band, Lines, Picture

__all__ = ["SharpnessFigureName", "SharpnessPresentation"]

SharpnessFigureName = Literal["sharpness_over_steps"]

_LARGEST = "sharpness/largest_eigenvalue"
_TRACE, _TRACE_ERROR = "sharpness/trace", "sharpness/trace_error"
_PRODUCT, _LIMIT = "sharpness/step_size_times_eigenvalue", "sharpness/stability_limit"


def _eigenvalue(place: int) -> str:
    """Says where an eigenvalue is logged, the largest being at place 0."""
    return _LARGEST if place == 0 else f"sharpness/eigenvalue_{place + 1}"


@final
@dataclass(frozen=True)
class SharpnessPresentation(Presentation[SharpnessReport]):
    """How the curvature is logged, as the arguments of ``SharpnessMonitor`` of the same names say.

    Attributes:
        figures: Names of the figures.
        figures_every: Measurements between figures.
    """

    figures: tuple[SharpnessFigureName, ...]
    figures_every: int

    title: ClassVar[str] = "Sharpness of the training loss"
    setup_tag: ClassVar[str] = "sharpness_setup"
    metrics: ClassVar[tuple[str, ...]] = ("sharpness",)  # type: ignore[misc]
    compared: ClassVar[tuple[str, ...]] = (_LARGEST,)

    def scalars(self, report: SharpnessReport) -> dict[str, float]:
        """Names the eigenvalues, the trace where there is one, the step size by them, the loss and the cost."""
        trace = {_TRACE: report.trace, _TRACE_ERROR: report.trace_error} if report.has_trace else {}
        return {
            **{_eigenvalue(place): value for place, value in enumerate(report.eigenvalues)},
            **trace,
            _PRODUCT: report.step_size_times_eigenvalue,
            _LIMIT: report.stability_limit,
            "sharpness/residual": report.residuals[0],
            "sharpness/loss": report.loss,
            "sharpness/products": report.num_products,
            "sharpness/cost_seconds": report.seconds,
        }

    def monitored(self, report: SharpnessReport) -> dict[str, float]:
        """Names the largest eigenvalue."""
        return {"sharpness": report.largest_eigenvalue}

    def charts(self, report: SharpnessReport) -> tuple[Lines | Band, ...]:
        """Lays out the eigenvalues, and how near the step size is to where it would be unstable."""
        shown = tuple(map(_eigenvalue, range(len(report.eigenvalues))))[:MOST_LINES]
        title = "Largest eigenvalue" if len(shown) == 1 else f"The {len(shown)} largest eigenvalues"
        return (
            Lines(f"{title} of the Hessian", shown),
            Lines("Step size × largest eigenvalue, and its limit", (_PRODUCT, _LIMIT)),
        )

    def setup(self, report: SharpnessReport) -> Mapping[str, str]:
        """Says which Hessian it is."""
        size = f"{report.minibatch_size} samples" if report.minibatch_size else "unknown size"
        return {
            "measured": f"the Hessian of {report.num_parameters} parameters, by {report.num_products} products",
            "minibatches": f"{report.num_minibatches} of {size}, the same at every step",
            "loss": "in training mode (random numbers are fixed), without autocast, without weight decay",
            "note": report.note or "nothing special",
        }

    def picture(self, name: str, reports: Sequence[SharpnessReport]) -> dict[str, Picture]:
        """Draws the figure."""
        figure, _ = figures.sharpness_over_steps(reports)
        return {f"sharpness_figures/{name}": rendered(figure)}
