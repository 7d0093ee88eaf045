"""From a sample along dim 0 to its tail index: pure functions, one leaf each, and tests of the laws behind it.

A function in ``__all__`` whose annotation says that it returns a ``TailIndexEstimate`` is an estimator, and takes part
wherever estimators are named.
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature

from lightning_tailindex.records import TailIndexEstimate

from .characteristic import characteristic
from .group_sum import group_sum
from .grouped_mle import grouped_mle
from .hill import hill
from .kolmogorov import kolmogorov_distance
from .law_fit import law_fit
from .log_moment import log_moment
from .normality import anderson_darling, projection_acceptance, shapiro_wilk
from .power_law import power_law
from .quantile import quantile
from .surrogate import gaussian_surrogate
from .weight_spectrum import weight_spectrum

__all__ = [
    "anderson_darling",
    "characteristic",
    "estimators",
    "gaussian_surrogate",
    "group_sum",
    "grouped_mle",
    "hill",
    "kolmogorov_distance",
    "law_fit",
    "log_moment",
    "power_law",
    "projection_acceptance",
    "quantile",
    "shapiro_wilk",
    "weight_spectrum",
]


def estimators() -> dict[str, Callable[..., TailIndexEstimate]]:
    """Finds the estimators of the tail index among the functions here.

    Returns:
        The functions by name, alphabetically.

    Example:
        >>> "grouped_mle" in estimators(), "law_fit" in estimators()
        (True, False)
    """
    functions = {name: globals()[name] for name in sorted(__all__)}
    return {n: f for n, f in functions.items() if signature(f, eval_str=True).return_annotation is TailIndexEstimate}
