"""Estimators by their names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor

from lightning_tailindex import functional
from lightning_tailindex.records import TailIndexEstimate

__all__ = ["Estimator", "resolve_estimators"]


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
