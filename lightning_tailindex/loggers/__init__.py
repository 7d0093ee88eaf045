"""Reports in each logger's terms, and the one home of every name that users see."""

from __future__ import annotations

from .first_exit import FirstExitPresentation
from .iterates import IterateFigureName, IteratePresentation
from .names import callback_metrics, check_names, detailed_groups, histograms, laws, scalars
from .noise import NoisePresentation
from .pictures import FIGURES, FigureName
from .presentation import Presentation
from .publishing import SINKS, Publisher, sink_of
from .sharpness import SharpnessFigureName, SharpnessPresentation
from .sink import Sink
from .spectrum import SpectrumFigureName, SpectrumPresentation

__all__ = [
    "FIGURES",
    "SINKS",
    "FigureName",
    "FirstExitPresentation",
    "IterateFigureName",
    "IteratePresentation",
    "NoisePresentation",
    "Presentation",
    "Publisher",
    "SharpnessFigureName",
    "SharpnessPresentation",
    "Sink",
    "SpectrumFigureName",
    "SpectrumPresentation",
    "callback_metrics",
    "check_names",
    "detailed_groups",
    "histograms",
    "laws",
    "scalars",
    "sink_of",
]
