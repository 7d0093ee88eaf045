"""Estimators of the tail index: pure functions of a sample along dim 0, one leaf each.

Whatever stands in ``__all__`` is an estimator and takes part wherever estimators are named.
"""

from __future__ import annotations

from .group_sum import group_sum
from .grouped_mle import grouped_mle

__all__ = ["group_sum", "grouped_mle"]
