"""What a measurement says of a model's gradient noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

__all__ = ["AggregatedTailIndex", "DrawSamples", "Histogram", "Measurement", "Report"]


@dataclass(frozen=True)
class Histogram:
    """Counts of values in bins, with what a logger needs beside them.

    Attributes:
        edges: Edges of the bins, ascending, one more than there are bins.
        counts: Values in each bin; values beyond the edges are counted in the first and last bin.
        total: Sum of the values, as counted.
        total_squares: Sum of the squares of the values, as counted.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    total: float
    total_squares: float


@dataclass(frozen=True)
class AggregatedTailIndex:
    """The tail index of noise averaged over several minibatches, as larger minibatches would have it.

    A stable law keeps its index whatever is averaged; noise of finite variance climbs to 2.

    Attributes:
        num_minibatches: Minibatches averaged into one draw.
        num_draws: Such draws.
        alpha: Tail index, pooled over the group's coordinates; NaN where there was no usable draw.
        low: Lower end of its 95 % interval.
        high: Upper end of its 95 % interval.
        gaussian_alpha: The same estimate for the Gaussian surrogate, averaged likewise.
    """

    num_minibatches: int
    num_draws: int
    alpha: float
    low: float
    high: float
    gaussian_alpha: float


@dataclass(frozen=True)
class Measurement:
    """What one estimator says of one group's gradient noise at one step.

    Attributes:
        group: Name of the group.
        estimator: Name of the estimator; "sequential_mle" where every coordinate was measured in pairs of draws.
        alpha: Tail index of the noise, pooled over the group's coordinates; NaN where there was no usable draw.
        low: Lower end of its 95 % interval, which knows that coordinates share their minibatches.
        high: Upper end of its 95 % interval.
        gaussian_alpha: The same estimate for Gaussian noise with the same empirical covariance.
        scale: Median over the coordinates of the noise's scale, in the unit of the gradient.
        num_draws: Minibatches whose gradients were draws.
        num_coordinates: Coordinates that were measured; surrogates are of 256 of them at most. 0 where nobody knows,
            as in what was read back from files.
        group_size: Coordinates that the group has.
        effective_coordinates: Effective number of independent coordinates, often far below ``num_coordinates``.
        zero_share: Share of exact zeros, and of values that tie with the centre, which were left out; where draws come
            in pairs, share of the pairs with an exact zero.
        gradient_norm: Norm of the full gradient over all coordinates of the group; with ``source="training"`` that of
            the mean gradient over the window, from the sampled coordinates, scaled up.
        noise_norm: Root mean square norm of the noise over all coordinates of the group; with ``source="training"``
            from the sampled ones, scaled up.
        gain: Mean log-likelihood of a value under the stable law above that under the best Gaussian, in nats.
        gaussian_gain: The same for the Gaussian surrogate.
        law: Which law fits best: "gaussian", "stable", "student_t", "laplace", or "none" where the data gave none.
        student_t_gain: Mean log-likelihood of a value under Student's t above that under the best Gaussian, in nats.
        laplace_gain: The same under Laplace's law.
        gaussian_p_value: Chance that Gaussian noise of the same covariance favours a stable law at least as much.
        kolmogorov_distance: Distance of the noise's distribution from that of the best stable law, in [0, 1].
        anderson_darling: Share of random projections of the noise that pass for Gaussian, by Anderson and Darling.
        gaussian_anderson_darling: The same share for the Gaussian surrogate.
        shapiro_wilk: Share of the same projections that pass for Gaussian, by Shapiro and Wilk.
        gaussian_shapiro_wilk: The same share for the Gaussian surrogate.
        coordinate_median: Median over the coordinates of each one's own tail index.
        coordinate_harmonic_mean: Inverse of the mean over the coordinates of 1 / tail index; the mean of the tail
            indices themselves would be drawn upwards where draws are few.
        aggregated: The tail index of averages of 2, 4, 8 ... minibatches, as far as there are 16 such averages.
        note: What a reader has to know of these numbers, in words; empty where nothing is special.
        coordinate_alphas: Histogram of each coordinate's own tail index.
        standardized_noise: Histogram of the noise, each coordinate centred and divided by its scale.
    """

    group: str
    estimator: str
    alpha: float
    low: float
    high: float
    gaussian_alpha: float
    scale: float
    num_draws: int
    num_coordinates: int
    group_size: int
    effective_coordinates: float
    zero_share: float
    gradient_norm: float
    noise_norm: float
    gain: float
    gaussian_gain: float
    law: str
    student_t_gain: float
    laplace_gain: float
    gaussian_p_value: float
    kolmogorov_distance: float
    anderson_darling: float
    gaussian_anderson_darling: float
    shapiro_wilk: float
    gaussian_shapiro_wilk: float
    coordinate_median: float
    coordinate_harmonic_mean: float
    aggregated: tuple[AggregatedTailIndex, ...]
    note: str
    coordinate_alphas: Histogram = field(repr=False)
    standardized_noise: Histogram = field(repr=False)

    @property
    def signal_to_noise(self) -> float:
        """Norm of the full gradient over the root mean square norm of the noise."""
        return self.gradient_norm / self.noise_norm if self.noise_norm > 0 else math.nan


@dataclass(frozen=True)
class DrawSamples:
    """Which samples a draw was of.

    Attributes:
        draw: Number of the draw, from 0.
        samples: Their indices in the data set.
    """

    draw: int
    samples: tuple[int, ...]


@dataclass(frozen=True)
class Report:
    """One measurement of a model: every group by every estimator.

    Attributes:
        step: Optimizer steps taken before it.
        measurements: Group after group, the whole model last; estimator after estimator within a group.
        num_full_minibatches: Minibatches averaged into the full gradient; 0 with ``source="training"``, which has none.
        minibatch_size: Samples in a draw; 0 where nobody knows.
        seconds: Wall time that measuring took.
        note: What holds of all the measurements, in words; empty where nothing is special.
        noise_unit: What a draw is: "step" for what an optimizer step consumes, "loader" for one loader batch of one
            rank.
        draw_norms: Norm of each draw's noise over the sampled coordinates of the whole model.
        largest_draws: The samples of the draws of the largest norms, eight at most, the largest first; empty where the
            loader does not tell, or several processes have a share in a draw, and always with ``source="training"``.
    """

    step: int
    measurements: tuple[Measurement, ...]
    num_full_minibatches: int
    minibatch_size: int
    seconds: float
    note: str = ""
    noise_unit: str = "step"
    draw_norms: tuple[float, ...] = ()
    largest_draws: tuple[DrawSamples, ...] = ()

    @property
    def whole_model(self) -> Measurement:
        """What the first estimator says of the whole model."""
        return self.headline[-1]

    @property
    def headline(self) -> tuple[Measurement, ...]:
        """What the first estimator says of each group, the whole model last."""
        first = self.measurements[0].estimator
        return tuple(measurement for measurement in self.measurements if measurement.estimator == first)
