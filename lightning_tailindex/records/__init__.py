"""What the package says: frozen records, and nothing that computes."""

from __future__ import annotations

from .estimates import LawFit, NormalityTest, ProjectionAcceptance, TailIndexEstimate
from .measurements import AggregatedTailIndex, DrawSamples, Histogram, Measurement, Report
from .plain import from_plain, to_plain
from .report import AnyReport, ReportT
from .sharpness import SharpnessReport

__all__ = [
    "AggregatedTailIndex",
    "AnyReport",
    "DrawSamples",
    "Histogram",
    "LawFit",
    "Measurement",
    "NormalityTest",
    "ProjectionAcceptance",
    "Report",
    "ReportT",
    "SharpnessReport",
    "TailIndexEstimate",
    "from_plain",
    "to_plain",
]
