"""Estimators by their names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal, Protocol, TypeAlias, cast

import torch
from torch import Tensor

from lightning_tailindex import functional
from lightning_tailindex.functional._values import record_nothing
from lightning_tailindex.records import TailIndexEstimate

__all__ = ["Estimator", "EstimatorName", "Estimators", "NamedEstimator", "resolve_estimators"]

EstimatorName = Literal["characteristic", "group_sum", "grouped_mle", "hill", "log_moment", "power_law", "quantile"]
"""Names of :func:`lightning_tailindex.functional.estimators`, for type checkers and command lines."""

_TRIAL_DRAWS = 2**14  # more than measurements have, so that what is refused is wrong with any number of them


class Estimator(Protocol):
    """From a sample along dim 0 to a tail index, per series or pooled over all of them."""

    def __call__(self, x: Tensor, *, pooled: bool = False) -> TailIndexEstimate:
        """Estimates from draws ``[n, ...]``."""


class NamedEstimator:
    """An estimator of :mod:`lightning_tailindex.functional` with arguments of its own; reports call it ``hill(k=10)``.

    Samples that have too few draws for the arguments, as averages of several minibatches may, give NaN and a note.

    Args:
        name: Name of the estimator.
        options: Arguments of the function by name, other than the draws and pooled.

    Raises:
        ValueError: If the name is unknown, or the function does not take the options.

    Example:
        >>> NamedEstimator("hill", {"k": 10}).__name__
        'hill(k=10)'
        >>> NamedEstimator("hill", {"k": 10})(torch.ones(8, 2)).note
        'hill needs 1 <= k < n order statistics, got k=10, n=8.'
    """

    def __init__(self, name: EstimatorName, options: Mapping[str, Any]) -> None:
        self._function = _function(name)
        if not isinstance(options, Mapping):
            raise ValueError(f"options must be arguments of {name} by name, got {options!r}.")
        self._options = dict(options)
        self.__name__ = f"{name}({', '.join(f'{key}={value}' for key, value in self._options.items())})"
        try:
            self._function(torch.arange(1.0, _TRIAL_DRAWS, device="cpu")[:, None], pooled=False, **self._options)
        except (TypeError, ValueError) as error:
            raise ValueError(f"options must be arguments of {name}, got {self._options}: {error}") from error

    def __call__(self, x: Tensor, *, pooled: bool = False) -> TailIndexEstimate:
        """Estimates from draws ``[n, ...]``."""
        try:
            return self._function(x, pooled=pooled, **self._options)
        except ValueError as error:  # the options are good, so the draws are too few for them
            return record_nothing(x[:0].sum(0), pooled, str(error))


Estimators: TypeAlias = (
    EstimatorName | NamedEstimator | Sequence[EstimatorName | NamedEstimator | Callable[..., Any]] | Callable[..., Any]
)
"""One or several; command lines read no more precise type of a function."""


def _function(name: object) -> Callable[..., TailIndexEstimate]:
    named = functional.estimators()
    if name not in named:
        raise ValueError(f"estimators must be among {sorted(named)} or functions, got {name!r}.")
    return named[str(name)]


def _ordinary(function: Estimator, x: Tensor, *, pooled: bool = False) -> TailIndexEstimate:
    """Calls a function that may differentiate, which it could not in inference mode."""
    with torch.inference_mode(False):
        found: object = function(x.clone(), pooled=pooled)
    if not isinstance(found, TailIndexEstimate):
        raise TypeError(
            f"estimators must return a TailIndexEstimate, {_name(function)} returned {type(found).__name__}."
        )
    shape, own = () if pooled else tuple(x.shape[1:]), tuple(found.alpha.shape)
    if own != shape:
        rule = f"alpha of shape {shape} where pooled is {pooled}"
        raise ValueError(f"estimators must return {rule}, {_name(function)} returned one of shape {own}.")
    return found


def _resolved(estimator: Any) -> Estimator:
    if isinstance(estimator, str):
        return _function(estimator)
    if isinstance(estimator, NamedEstimator) or estimator in functional.estimators().values():
        return cast(Estimator, estimator)
    _check_arguments(estimator)
    return partial(_ordinary, estimator)


def _check_arguments(estimator: Callable[..., Any]) -> None:
    """Refuses a function that cannot be called as it will be: each measurement would fail, an hour later."""
    try:
        signature = inspect.signature(estimator)
    except (TypeError, ValueError):
        return  # nothing is known of it
    try:
        signature.bind(None, pooled=True)
    except TypeError as error:
        rule = "names or functions of draws and the keyword pooled"
        raise ValueError(f"estimators must be {rule}, got {_name(estimator)}{signature}: {error}.") from error


def _name(estimator: object) -> str:
    return estimator if isinstance(estimator, str) else getattr(estimator, "__name__", type(estimator).__name__)


def resolve_estimators(estimators: Estimators) -> dict[str, Estimator]:
    """Finds estimators by their names.

    Args:
        estimators: One or several names of :mod:`lightning_tailindex.functional`, or functions of the same form.

    Returns:
        The functions by name, in the order given; all can be called in inference mode.

    Raises:
        ValueError: If a name is unknown, given twice, or none is given, or a function takes other arguments.
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
    return {name: _resolved(estimator) for name, estimator in zip(names, wanted, strict=True)}
