"""Estimators of the tail index: pure functions of a sample along dim 0, one leaf each.

Whatever stands in ``__all__`` is an estimator and takes part wherever estimators are named.
"""

from __future__ import annotations

from .characteristic import characteristic
from .group_sum import group_sum
from .grouped_mle import grouped_mle
from .hill import hill
from .log_moment import log_moment
from .power_law import power_law
from .quantile import quantile

__all__ = ["characteristic", "group_sum", "grouped_mle", "hill", "log_moment", "power_law", "quantile"]
