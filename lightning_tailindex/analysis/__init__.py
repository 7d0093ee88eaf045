"""From observed gradient noise to a report; pure."""

from __future__ import annotations

from .estimators import Estimators, NamedEstimator, resolve_estimators
from .report import analyse

__all__ = ["Estimators", "NamedEstimator", "analyse", "resolve_estimators"]
