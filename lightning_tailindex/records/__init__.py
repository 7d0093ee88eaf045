"""What the package says: frozen records, and nothing that computes."""

from __future__ import annotations

from .estimates import LawFit, NormalityTest, ProjectionAcceptance, TailIndexEstimate
from .first_exit import FirstExit, FirstExitReport
from .iterates import IterateEstimate, IterateMeasurement, IterateReport, ParameterGroup
from .measurements import AggregatedTailIndex, DrawSamples, Histogram, Measurement, Report
from .plain import from_plain, to_plain
from .report import AnyReport, ReportT
from .sharpness import SharpnessReport
from .spectrum import SpectrumMeasurement, SpectrumReport

__all__ = [
    "AggregatedTailIndex",
    "AnyReport",
    "DrawSamples",
    "FirstExit",
    "FirstExitReport",
    "Histogram",
    "IterateEstimate",
    "IterateMeasurement",
    "IterateReport",
    "LawFit",
    "Measurement",
    "NormalityTest",
    "ParameterGroup",
    "ProjectionAcceptance",
    "Report",
    "ReportT",
    "SharpnessReport",
    "SpectrumMeasurement",
    "SpectrumReport",
    "TailIndexEstimate",
    "from_plain",
    "to_plain",
]
