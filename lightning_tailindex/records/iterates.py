"""What a window of SGD's iterates says of their tails, and of the step size and minibatch behind them."""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["IterateEstimate", "IterateMeasurement", "IterateReport", "ParameterGroup"]


@dataclass(frozen=True)
class IterateEstimate:
    """One tail index.

    Attributes:
        what: Of what, and how estimated; see :class:`IterateMeasurement`.
        alpha: The tail index; NaN where the data gave none.
        low: Lower end of its 95 % interval.
        high: Upper end of its 95 % interval.
        note: What a reader has to know of it, in words; empty where nothing is special.
    """

    what: str
    alpha: float
    low: float
    high: float
    note: str = ""


@dataclass(frozen=True)
class IterateMeasurement:
    """What one window says of one group's iterates.

    Attributes:
        group: Name of the group.
        num_coordinates: Coordinates that were followed.
        group_size: Coordinates that the group has.
        deviation_norm: Root mean square of ‖w_k − mean‖ over the snapshots, scaled up to all coordinates of the group.
        estimates: Tail indices, the headline first: "ergodic_average" (the averages over the window, coordinates as
            draws, by grouped maximum likelihood; of the whole model the groups' coordinates, the centre and the scale
            of each group left free), "ergodic_average_gaussian" (the same of as many Gaussian values of the groups'
            scales), "ergodic_average_published" (the same values in the published arrangement of group sums, the mean
            of each group subtracted), "repetitions" (ergodic averages of 16 windows or more as draws, pooled over
            coordinates; NaN before), "deviation" (w_k − mean, pooled over coordinates), "deviation_gaussian" (its
            Gaussian surrogate's), "deviation_rows" (growth of norms of sums of differences of random pairs of
            w_k), "deviation_norm" (Hill's of ‖w_k − mean‖). Where each replica is asked for, "worker_0" and
            "worker_0_deviation" and so on are the first and the fourth of each worker.
    """

    group: str
    num_coordinates: int
    group_size: int
    deviation_norm: float
    estimates: tuple[IterateEstimate, ...]

    @property
    def alpha(self) -> float:
        """The tail index of the ergodic averages, which is the headline."""
        return self.estimates[0].alpha

    def of(self, what: str) -> IterateEstimate:
        """Finds an estimate by what it is of.

        Args:
            what: One of the names above.

        Returns:
            The estimate.

        Raises:
            KeyError: If there is none.
        """
        return {estimate.what: estimate for estimate in self.estimates}[what]


@dataclass(frozen=True)
class ParameterGroup:
    """How an optimizer moved one of its parameter groups over a window.

    Attributes:
        name: The optimizer's class, with the number or the name of the group where there are several.
        step_size: Step size, the mean over the window's steps; NaN where it made none.
        last_step_size: Step size of the window's last step.
        momentum: Momentum of the last step; 0 where the optimizer has none.
        momentum_kind: "momentum", or "beta1" for the first of an Adam-like optimizer's betas.
    """

    name: str
    step_size: float
    last_step_size: float
    momentum: float
    momentum_kind: str


@dataclass(frozen=True)
class IterateReport:
    """One window of iterates: every group.

    Attributes:
        step: Optimizer steps taken at its end.
        measurements: Group after group, the whole model last.
        parameter_groups: How the optimizers moved the weights meanwhile.
        minibatch_size: Samples that an optimizer step consumed, over accumulation and processes, the mean over the
            window; 0 where nobody knows.
        window: Iterates in the window.
        burn_in: Optimizer steps before the first window.
        num_snapshots: Iterates that were kept for the deviations.
        num_repetitions: Ergodic averages kept so far, as draws.
        replicas: "same", "average" or "each".
        seconds: Wall time that measuring took, following the weights not included.
        note: What holds of all the measurements, in words.
    """

    step: int
    measurements: tuple[IterateMeasurement, ...]
    parameter_groups: tuple[ParameterGroup, ...]
    minibatch_size: float
    window: int
    burn_in: int
    num_snapshots: int
    num_repetitions: int
    replicas: str
    seconds: float
    note: str = ""

    @property
    def whole_model(self) -> IterateMeasurement:
        """What is said of the whole model."""
        return self.measurements[-1]

    def ratio(self, group: ParameterGroup) -> float:
        """Returns a parameter group's step size over the minibatch size, NaN where that is unknown."""
        return group.step_size / self.minibatch_size if self.minibatch_size > 0 else math.nan
