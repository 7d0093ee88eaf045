"""Reports in each logger's terms, and the one home of every name that users see."""

from __future__ import annotations

from .names import callback_metrics, detailed_groups, histograms, laws, monitored, scalars
from .pictures import FIGURES, FigureName, picture
from .publishing import SINKS, Publisher, Settings, sink_of
from .sink import Sink

__all__ = [
    "FIGURES",
    "SINKS",
    "FigureName",
    "Publisher",
    "Settings",
    "Sink",
    "callback_metrics",
    "detailed_groups",
    "histograms",
    "laws",
    "monitored",
    "picture",
    "scalars",
    "sink_of",
]
