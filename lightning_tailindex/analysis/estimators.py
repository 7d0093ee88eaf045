"""Estimators by their names, and on all groups at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from lightning_tailindex import functional
from lightning_tailindex.functional.grouped_mle import pooled_groups
from lightning_tailindex.records import TailIndexEstimate

__all__ = ["Estimator", "estimate_groups", "resolve_estimators"]


class Estimator(Protocol):
    """From a sample along dim 0 to a tail index, per series or pooled over all of them."""

    def __call__(self, x: Tensor, *, pooled: bool = False) -> TailIndexEstimate:
        """Estimates from draws ``[n, ...]``."""


def _name(estimator: str | Estimator) -> str:
    return estimator if isinstance(estimator, str) else getattr(estimator, "__name__", type(estimator).__name__)


def resolve_estimators(estimators: str | Estimator | Sequence[str | Estimator]) -> dict[str, Estimator]:
    """Finds estimators by their names.

    Args:
        estimators: One or several names of :mod:`lightning_tailindex.functional`, or functions of the same form.

    Returns:
        The functions by name, in the order given.

    Raises:
        ValueError: If a name is unknown, given twice, or none is given.
    """
    wanted: list[Any] = [estimators]
    if isinstance(estimators, Sequence) and not isinstance(estimators, str):
        wanted = list(estimators)
    bad = [estimator for estimator in wanted if not isinstance(estimator, str) and not callable(estimator)]
    if bad:
        raise ValueError(f"estimators must be names or functions, got {bad[0]!r}.")
    names = [_name(estimator) for estimator in wanted]
    if not wanted or len(set(names)) < len(names):
        raise ValueError(f"estimators must be one or several different ones, got {names}.")
    named = functional.estimators()
    unknown = [e for e in wanted if isinstance(e, str) and e not in named]
    if unknown:
        raise ValueError(f"estimators must be among {sorted(named)} or functions, got {unknown[0]!r}.")
    return {n: named[e] if isinstance(e, str) else e for n, e in zip(names, wanted, strict=True)}


def estimate_groups(
    estimator: Estimator, groups: Sequence[Tensor], surrogates: Sequence[Tensor]
) -> tuple[Sequence[TailIndexEstimate], Sequence[TailIndexEstimate]]:
    """Pools the coordinates of each group, and those of its surrogate.

    Args:
        estimator: The estimator.
        groups: Draws of each group, ``[n, d]``.
        surrogates: Their Gaussian surrogates.

    Returns:
        An estimate for each group, and one for each surrogate, which may have no interval.
    """
    together = [*groups, *surrogates]
    if estimator is functional.grouped_mle:  # in a fraction of the time
        wanted = [True] * len(groups) + [False] * len(surrogates)
        estimates = pooled_groups(together, intervals=wanted)
    else:
        estimates = [estimator(group, pooled=True) for group in together]
    return estimates[: len(groups)], estimates[len(groups) :]
