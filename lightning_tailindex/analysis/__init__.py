"""From observed gradient noise to a report; pure."""

from __future__ import annotations

from .estimators import Estimator, resolve_estimators
from .report import analyse

__all__ = ["Estimator", "analyse", "resolve_estimators"]
