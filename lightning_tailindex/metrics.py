"""The tail index as a torchmetrics metric: accumulated over updates and processes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from numbers import Integral
from typing import Any, Literal

import torch
from torch import Tensor
from torchmetrics import Metric

from . import functional
from .functional._checks import checked_sample
from .functional._stream import add_counts, differences, empty_counts, estimate_counts, without_pairing
from .functional._values import record_nothing
from .records import TailIndexEstimate

__all__ = ["TailIndex"]


class TailIndex(Metric):
    r"""Accumulates draws over updates and processes and estimates their tail index.

    With the default estimator nothing of the draws is kept but their numbers in logarithmic cells of :math:`|X|`, four
    an octave. These add: over any number of updates and processes, exactly and in any order, in 4 KiB a series. The
    estimate is that of :func:`~lightning_tailindex.functional.grouped_mle` on these cells.

    No median can be subtracted from draws that are gone, so by default consecutive draws are,

    .. math::
        D_i = X_{2i-1} - X_{2i}, \qquad \sigma_D = 2^{1/\alpha} \sigma,

    which are symmetric and centred whatever the location and the skewness of the draws, and whose tail index is
    theirs; where one of both is exactly 0, as where no gradient arrived, the pair is left out. Half the values are
    left, so the standard error is 1.4 times that of draws whose centre is known to be 0, for which there is
    ``center="none"``.

    Any other estimator sees the last ``max_draws`` draws of each process, so the order of updates matters to it, and
    what adds states, such as torchmetrics' ``Running`` and ``merge_state``, refuses it.

    The number of series has to be told: then the state has one shape from the beginning, and a process without an
    update, or a new metric that loads a state, takes part like any other.

    Args:
        num_series: Number of series, at least 1: the numbers that one draw consists of.
        estimator: A name of :mod:`lightning_tailindex.functional`, or a function of the same form, such as a
            ``functools.partial`` of one. Only the name ``"grouped_mle"`` stands for counts in constant memory.
        pooled: Whether all series share one tail index, the scale of each left free.
        center: ``"pairs"`` takes differences of the draws 0 and 1, 2 and 3 and so on of each update; the odd last draw
            of an update is left out. ``"none"`` takes the draws as they are: for counts their centre has to be 0, any
            other estimator centres them as it always does.
        cells_per_octave: 4, or 8 for a slightly more precise estimate and twice the memory; of ``"grouped_mle"``.
        max_draws: Number of draws kept for an estimator other than ``"grouped_mle"``, at least 8; of differences with
            ``"pairs"``.
        kwargs: Further arguments of :class:`torchmetrics.Metric`, such as ``sync_on_compute``.

    Raises:
        ValueError: If an argument is out of its range, or ``estimator`` is unknown.

    Example:
        >>> metric = TailIndex(num_series=3)
        >>> generator = torch.Generator().manual_seed(0)
        >>> for _ in range(100):
        ...     metric.update(5 + torch.randn(64, 3, generator=generator))
        >>> metric.compute()
        tensor(2.)
    """

    is_differentiable = False
    higher_is_better = None
    plot_lower_bound = 0.0
    plot_upper_bound = 2.0

    def __init__(
        self,
        num_series: int = 1,
        estimator: str | Callable[..., TailIndexEstimate] = "grouped_mle",
        pooled: bool = True,
        center: Literal["pairs", "none"] = "pairs",
        cells_per_octave: Literal[4, 8] = 4,
        max_draws: int = 4096,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value, least in (("num_series", num_series, 1), ("max_draws", max_draws, 8)):
            if not _is_integer(value) or value < least:
                raise ValueError(f"TailIndex needs {name} to be an integer of at least {least}, got {value!r}.")
        if center not in ("pairs", "none"):
            raise ValueError(f'TailIndex needs center "pairs" or "none", got {center!r}.')
        if not isinstance(pooled, bool):
            raise ValueError(f"TailIndex needs pooled to be True or False, got {pooled!r}.")
        if not _is_integer(cells_per_octave) or cells_per_octave not in (4, 8):
            raise ValueError(f"TailIndex needs cells_per_octave 4 or 8, got {cells_per_octave!r}.")
        # a default type of half precision is not asked for, and would round the draws that are kept
        super().set_dtype(torch.promote_types(self.dtype, torch.float32))
        self.num_series, self.pooled, self.center = int(num_series), pooled, center
        self.cells_per_octave, self.max_draws = int(cells_per_octave), int(max_draws)
        self.estimator, self._function = estimator, _resolved(estimator)
        # Metrics of a collection share states of one name if they are equal after the first update: the name tells
        # what is kept, and how many draws of it.
        kept = "differences" if center == "pairs" else "draws"
        self._state_name = "counts" if self._function is None else f"last_{max_draws}_{kept}"
        if self._function is None:
            self.add_state("counts", default=empty_counts(num_series, cells_per_octave), dist_reduce_fx="sum")
        else:
            self.add_state(self._state_name, default=[], dist_reduce_fx="cat")

    @property
    def full_state_update(self) -> bool:  # type: ignore[override]
        """Whether an update needs the state before it; draws are dropped as others come, counts only add."""
        return self._state_name != "counts"

    def set_dtype(self, dst_type: str | torch.dtype) -> TailIndex:
        """Casts the draws that are kept; counts stay whole numbers, which a coarser type would round.

        Args:
            dst_type: The floating-point type, or its name.

        Returns:
            The metric itself.
        """
        state, default = getattr(self, self._state_name), self._defaults[self._state_name]
        super().set_dtype(dst_type)
        if isinstance(state, Tensor) and isinstance(default, Tensor):  # counts
            self.counts, self._defaults["counts"] = state.to(self.device), default.to(self.device)
        return self

    def update(self, x: Tensor) -> None:
        """Adds draws.

        Args:
            x: Draws along dim 0, shape ``[n, ...]``, ``num_series`` numbers each, in any unit; at least 2 with
                ``center="pairs"``. Sizes from 8e-25 to 3e14 are told apart; a series whose median is above 2e11,
                or close to 8e-25 with more than a few percent below, is left out with a note.

        Raises:
            TypeError: If ``x`` is no dense tensor of real floating point.
            ValueError: If there are too few draws, or they are not of ``num_series`` numbers.
        """
        x = checked_sample("TailIndex", x)
        if x.shape[1:].numel() != self.num_series:
            raise ValueError(f"TailIndex needs draws of num_series={self.num_series} numbers, got {tuple(x.shape)}.")
        if self.center == "pairs" and len(x) < 2:
            raise ValueError(f'TailIndex needs at least 2 draws an update with center="pairs", got {len(x)}.')
        values = x.reshape(len(x), -1)
        if self.center == "pairs":
            values = differences(values)
        state = getattr(self, self._state_name)
        if self._function is None:
            if state.is_inference() and not torch.is_inference_mode_enabled():  # of a validation in that mode
                self.counts = state = state.clone()
            add_counts(state, values, self.cells_per_octave)
        else:
            # flat, because torchmetrics stands in for a process without draws by an empty vector
            state.append(values.flatten().to(self.dtype, copy=True))
            _drop(state, self.max_draws * self.num_series)

    def compute(self) -> Tensor:
        """Estimates the tail index.

        Returns:
            The tail index of all draws, shape ``[]``, or ``[num_series]`` where not pooled; NaN where they gave none.
        """
        return self._estimate().alpha

    def estimate(self) -> TailIndexEstimate:
        """Estimates the tail index with its interval and its fit, from the draws of all processes.

        Counts do not tell how much series depend on each other. So the interval of a pooled tail index is that of the
        worst case, series that all say the same: right for one series, wider than need be for independent ones. The
        log-likelihood of a pooled tail index is an approximation where a series has more than 65,536 values.

        Returns:
            The estimate; ``scale`` is that of the draws, ``num_values`` is the number of values that were used, of
            differences with ``"pairs"``.
        """
        synced = self.sync_on_compute and not self._is_synced
        with self.sync_context(dist_sync_fn=self.dist_sync_fn, should_sync=synced, should_unsync=synced):
            return self._estimate()

    def _load_from_state_dict(self, *arguments: Any) -> None:
        """Copies what it loads: draws are added in place."""
        super()._load_from_state_dict(*arguments)
        setattr(self, self._state_name, deepcopy(getattr(self, self._state_name)))

    def plot(self, val: Tensor | Sequence[Tensor] | None = None, ax: Any = None) -> tuple[Any, Any]:
        """Plots one or several values of the metric.

        Args:
            val: A value of ``compute`` or ``forward``, or several of them; None computes one.
            ax: Axes of matplotlib to plot to; None makes new ones.

        Returns:
            The figure and the axes.
        """
        return self._plot(val, ax)

    def _estimate(self) -> TailIndexEstimate:
        state = getattr(self, self._state_name)
        if self._function is None:
            estimate = estimate_counts(state, self.cells_per_octave, pooled=self.pooled)
        else:
            draws = _joined(state, self.device).reshape(-1, self.num_series)
            if len(draws) > 0:
                estimate = self._function(draws, pooled=self.pooled)
            else:  # a function that is given may need some
                estimate = record_nothing(draws.new_empty(self.num_series), self.pooled, "there are no draws")
        return without_pairing(estimate, self.center)


def _is_integer(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _resolved(estimator: str | Callable[..., TailIndexEstimate]) -> Callable[..., TailIndexEstimate] | None:
    """The function of an estimator; None stands for counts."""
    if not isinstance(estimator, str):
        if not callable(estimator):
            raise ValueError(f"TailIndex needs estimator to be a name or a function, got {estimator!r}.")
        return estimator
    named = functional.estimators()
    if estimator not in named:
        raise ValueError(f"TailIndex needs estimator among {sorted(named)}, got {estimator!r}.")
    return None if estimator == "grouped_mle" else named[estimator]


def _drop(parts: list[Tensor], most: int) -> None:
    """Drops the first values beyond some number, in place; what is left of a part holds no memory of the rest."""
    surplus = sum(map(len, parts)) - most
    while surplus > 0:
        first = parts.pop(0)
        if len(first) > surplus:
            parts.insert(0, first[surplus:].clone())
        surplus -= len(first)


def _joined(state: Tensor | list[Tensor], device: torch.device) -> Tensor:
    """The draws: a list of them, or one tensor after they were gathered from all processes."""
    if isinstance(state, Tensor):
        return state
    return torch.cat(state) if state else torch.empty(0, dtype=torch.float32, device=device)
