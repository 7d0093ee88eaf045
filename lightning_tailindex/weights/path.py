"""How far the weights have gone from a reference, and how they jump."""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_tailindex.records import FirstExit, FirstExitReport
from lightning_tailindex.records.notes import joined

__all__ = ["Unseen", "WeightPath"]


class Unseen(NamedTuple):
    """Steps the weights of which were not looked at: the first, the last, and how many there are between both."""

    first: int
    last: int
    number: int

    def and_of(self, later: Unseen) -> Unseen:
        """Adds later ones."""
        return Unseen(self.first, later.last, self.number + later.number)

    def __str__(self) -> str:
        """Says so in words.

        Example:
            >>> print(Unseen(40, 159, 120))
            the weights of steps 40 to 159 were not seen: exits may have come earlier, or be missing
        """
        steps = f"step {self.first}" if self.first == self.last else f"steps {self.first} to {self.last}"
        some = "" if self.number == self.last - self.first + 1 else f"{self.number} of "
        return f"the weights of {some}{steps} were not seen: exits may have come earlier, or be missing"


class WeightPath:
    r"""Follows weights, one optimizer step after the other, without waiting for the device.

    .. math::
        \lVert w_k - w_\mathrm{ref}\rVert, \qquad \tau(r) = \min\{k : \lVert w_k - w_\mathrm{ref}\rVert > r\}, \qquad
        \max_i \lVert\Delta w_i\rVert \bigl/ \operatorname{median}_i \lVert\Delta w_i\rVert

    It keeps a copy of the reference, and one of the last weights if it follows their steps.

    Args:
        radii: The radii, ascending, in the unit of the weights.
        window: Last optimizer steps that the largest and the median are of; None to follow no steps.
        exits: Radii that have been left already, with the optimizer step of it.
        unseen: Steps since the reference that were passed over before; None if there are none.
        awaited: The step to be looked at next; None before there is a reference.

    Attributes:
        unseen: The same, with those that were passed over since.
        awaited: The same, by now.
    """

    def __init__(
        self,
        radii: Sequence[float],
        window: int | None,
        exits: Mapping[float, int] | None = None,
        unseen: Unseen | None = None,
        awaited: int | None = None,
    ) -> None:
        self.unseen, self.awaited = unseen, awaited
        self._radii = tuple(radii)
        self._before = dict(exits or {})
        self._window = window
        self._reference: dict[str, Tensor] = {}
        self._last: dict[str, Tensor] = {}
        self._seen: int | None = None
        self._distance: Tensor | None = None
        self._exits: Tensor | None = None
        self._limits: Tensor | None = None
        self._moves: deque[Tensor] = deque(maxlen=window)

    @property
    def reference(self) -> dict[str, Tensor]:
        """The reference by the names of the parameters; empty as long as there is none."""
        return self._reference

    @property
    def exits(self) -> dict[float, int]:
        """The optimizer steps at which radii were left, by the radii that were."""
        if self._exits is None:
            return {radius: self._before[radius] for radius in self._radii if radius in self._before}
        return {r: step for r, step in zip(self._radii, self._exits.tolist(), strict=True) if step >= 0}

    def has_seen(self, step: int) -> bool:
        """Whether the weights after so many steps were the last that were looked at."""
        return self._seen == step

    def leave_from(self, reference: Mapping[str, Tensor], step: int) -> None:
        """Takes a copy of weights as the reference; radii that were left stay so.

        Args:
            reference: The weights by name, on the device on which they are trained; of none, nothing is taken.
            step: Optimizer steps taken: from there on, every step ought to be looked at.
        """
        if not reference:  # all are lazy
            return
        self.awaited = step if self.awaited is None else self.awaited
        self._reference = {name: weight.detach().clone() for name, weight in reference.items()}
        exits, first = self.exits, next(iter(self._reference.values()))
        dtype = torch.promote_types(first.dtype, torch.float32).to_real()  # that of the distance
        self._limits = torch.tensor(self._radii, dtype=dtype, device=first.device)
        # -1 stands for a radius that was not left, in a tensor that only the device looks at
        self._exits = torch.tensor([exits.get(r, -1) for r in self._radii], dtype=torch.long, device=first.device)

    def see(self, weights: Mapping[str, Tensor], step: int, *, has_stepped: bool = True) -> None:
        """Looks at the weights after an optimizer step; a second look at the same step is none.

        Args:
            weights: The weights by name, those of the reference if there is one. A step to other weights is not kept.
            step: Optimizer steps taken.
            has_stepped: Whether an optimizer made a step since the last look; else it is none.
        """
        if step == self._seen:
            return
        if has_stepped or self._seen != step - 1:
            self._measure(weights, step)
        self.unseen, self._seen = self._unseen_before(step), step
        self.awaited = None if self.awaited is None else step + 1

    def _measure(self, weights: Mapping[str, Tensor], step: int) -> None:
        if self._reference:
            self._distance = _norm(weights, self._reference)
            assert self._exits is not None
            assert self._limits is not None
            left = ~(self._distance <= self._limits) & (self._exits < 0)  # NaN is within no radius
            self._exits = torch.where(left, step, self._exits)
        if self._window is not None:
            if self._seen != step - 1:
                self._moves.clear()  # they are not of the last steps
            elif weights and _is_alike(weights, self._last):
                self._moves.append(_norm(weights, self._last))
            self._last = _copied(weights, self._last)

    def _unseen_before(self, step: int) -> Unseen | None:
        if self.awaited is None or self.awaited >= step:
            return self.unseen
        passed = Unseen(self.awaited, step - 1, step - self.awaited)
        return passed if self.unseen is None else self.unseen.and_of(passed)

    def report(self, step: int, seconds: float, notes: Sequence[str] = ()) -> FirstExitReport:
        """Says where the weights are; this is when the device is waited for.

        Args:
            step: Optimizer steps taken.
            seconds: Wall time that following the weights took since the last report.
            notes: What else a reader has to know, in words.

        Returns:
            The report.
        """
        moves = torch.stack(tuple(self._moves)).tolist() if self._moves else []
        exits = self.exits
        is_now = self._distance is not None and self.has_seen(step)
        distance = float(self._distance) if self._distance is not None and is_now else math.nan
        is_known = bool(moves) and not any(map(math.isnan, moves))  # NaN has no place in an order
        words = "the distance is not finite: weights or their squares are NaN or infinite"
        own = words if is_now and not math.isfinite(distance) else ""
        passed = self._unseen_before(step + 1)
        return FirstExitReport(
            step=step,
            distance=distance,
            exits=tuple(FirstExit(radius, exits.get(radius)) for radius in self._radii),
            largest_step=max(moves) if is_known else math.nan,
            median_step=statistics.median(moves) if is_known else math.nan,
            num_steps=len(moves),
            seconds=seconds,
            note=joined(own, "" if passed is None else str(passed), *notes),
        )


def _is_alike(weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> bool:
    return weights.keys() == others.keys() and all(w.shape == others[n].shape for n, w in weights.items())


def _copied(weights: Mapping[str, Tensor], into: dict[str, Tensor]) -> dict[str, Tensor]:
    if not _is_alike(weights, into):
        return {name: weight.detach().clone() for name, weight in weights.items()}
    for name, weight in weights.items():
        into[name].copy_(weight.detach())
    return into


def _norm(weights: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> Tensor:
    """The norm of the difference over all weights; one parameter's difference is in memory at a time."""
    norms = [torch.linalg.vector_norm(_wide(w) - _wide(others[name])) for name, w in weights.items()]
    whole: Tensor = torch.linalg.vector_norm(torch.stack([norm.to(norms[0]) for norm in norms]))
    return whole


def _wide(weight: Tensor) -> Tensor:
    return weight.detach().to(torch.promote_types(weight.dtype, torch.float32))
