"""From observed gradient noise to a report; pure."""

from __future__ import annotations

from .estimators import Estimators, NamedEstimator, resolve_estimators
from .iterates import analyse_iterates
from .report import analyse

__all__ = ["Estimators", "NamedEstimator", "analyse", "analyse_iterates", "resolve_estimators"]
