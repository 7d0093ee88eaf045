"""The figures that a logger can show."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from types import MappingProxyType
from typing import Literal

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from lightning_tailindex import figures
from lightning_tailindex.records import Report

from .sink import Picture

__all__ = ["FIGURES", "FigureName", "picture", "rendered"]

FigureName = Literal[
    "alpha_over_steps",
    "alpha_heatmap",
    "alpha_by_minibatch_size",
    "coordinate_alphas",
    "noise_density",
    "noise_qq",
    "noise_norms",
]

FIGURES = MappingProxyType[str, Callable[[Sequence[Report]], Figure]](
    {
        "alpha_over_steps": lambda reports: figures.alpha_over_steps(reports)[0],
        "alpha_heatmap": lambda reports: figures.alpha_heatmap(reports)[0],
        "alpha_by_minibatch_size": lambda reports: figures.alpha_by_minibatch_size(reports[-1])[0],
        "coordinate_alphas": lambda reports: figures.coordinate_alphas(reports)[0],
        "noise_density": lambda reports: figures.noise_density(reports[-1].whole_model)[0],
        "noise_qq": lambda reports: figures.noise_qq(reports[-1].whole_model)[0],
        "noise_norms": lambda reports: figures.noise_norms(reports[-1])[0],
    }
)
"""Every figure of :mod:`lightning_tailindex.figures` that reports can be drawn as, of the whole model or all groups."""

_NEEDED = MappingProxyType[str, Callable[[Report], Sequence[float]]](
    {
        "alpha_by_minibatch_size": lambda report: _finite(each.alpha for each in report.whole_model.aggregated),
        "coordinate_alphas": lambda report: report.whole_model.coordinate_alphas.counts,
        "noise_density": lambda report: report.whole_model.standardized_noise.counts,
        "noise_qq": lambda report: report.whole_model.standardized_noise.counts,
        "noise_norms": lambda report: _finite(report.draw_norms),
    }
)
"""The numbers that a figure shows, and without one of which that is not 0 there is nothing to draw."""


def _finite(values: Iterable[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def rendered(figure: Figure) -> Picture:
    """Draws a figure of any kind.

    Args:
        figure: The figure.

    Returns:
        Its pixels.
    """
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.array(canvas.buffer_rgba(), dtype=np.uint8)[..., :3]  # type: ignore[no-untyped-call]


def picture(name: str, reports: Sequence[Report]) -> dict[str, Picture]:
    """Draws a figure.

    Args:
        name: Its name, one of :data:`FIGURES`.
        reports: The reports of the run, oldest first, at least one.

    Returns:
        The figure by its tag; nothing if the whole model has no usable value for it.
    """
    needed = _NEEDED.get(name)
    if needed is not None and not any(needed(reports[-1])):
        return {}
    return {f"tail_index_figures/{name}": rendered(FIGURES[name](reports))}
