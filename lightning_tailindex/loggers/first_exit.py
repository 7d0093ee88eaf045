"""Reports of the weights' first exits in the terms of loggers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, final

from lightning_tailindex.records import FirstExitReport

from .presentation import Presentation
from .sink import Band, Lines

__all__ = ["FirstExitPresentation"]

_DISTANCE, _JUMP = "first_exit/distance", "first_exit/largest_step_over_median"


@final
@dataclass(frozen=True)
class FirstExitPresentation(Presentation[FirstExitReport]):
    """How the first exits are logged: as numbers, where there are any.

    Attributes:
        reference: What distances are from, in words.
        follows_steps: Whether the sizes of steps are known.
    """

    reference: str
    follows_steps: bool

    title: ClassVar[str] = "First exit of the weights"
    setup_tag: ClassVar[str] = "first_exit_setup"
    compared: ClassVar[tuple[str, ...]] = (_DISTANCE,)
    figures: ClassVar[tuple[str, ...]] = ()  # type: ignore[misc]
    figures_every: ClassVar[int] = 1  # type: ignore[misc]

    def scalars(self, report: FirstExitReport) -> dict[str, float]:
        """Names the distance, the sizes of steps, and the steps at which radii were left, once they were."""
        values = {_DISTANCE: report.distance, "first_exit/cost_seconds": report.seconds}
        if self.follows_steps:
            values |= {
                _JUMP: report.largest_over_median,
                "first_exit/largest_step": report.largest_step,
                "first_exit/median_step": report.median_step,
            }
        left = {f"first_exit/step/{each.radius!r}": each.step for each in report.exits}
        return values | {tag: float(step) for tag, step in left.items() if step is not None}

    @property
    def metrics(self) -> tuple[str, ...]:  # type: ignore[override]
        """The distance and, where steps are followed, the largest over the median."""
        return ("first_exit_distance", *(["first_exit_largest_step_over_median"] if self.follows_steps else []))

    def monitored(self, report: FirstExitReport) -> dict[str, float]:
        """Gives the distance and the largest step over the median."""
        return dict(zip(self.metrics, (report.distance, report.largest_over_median), strict=False))

    def charts(self, report: FirstExitReport) -> tuple[Lines | Band, ...]:
        """Lays out the distance, and the largest step over the median."""
        jump = Lines("Largest step of the weights over the median", (_JUMP,))
        return (
            Lines("Distance of the weights from the reference", (_DISTANCE,)),
            *([jump] if self.follows_steps else []),
        )

    def setup(self, report: FirstExitReport) -> Mapping[str, str]:
        """Says what distances are from."""
        return {
            "distance": f"from the {self.reference}, over the weights that could be trained when it was taken",
            "first exit": "the first optimizer step with a distance above the radius",
        }
