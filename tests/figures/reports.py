"""Reports as a monitor would make them, from numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from lightning_tailindex.records import AggregatedTailIndex, Histogram, Measurement, Report, SharpnessReport

ALPHA_EDGES = tuple(i / 20 for i in range(51))
NOISE_EDGES = tuple(-10 + i / 4 for i in range(81))


def histogram(edges: Sequence[float], counts: Sequence[int] | None = None) -> Histogram:
    return Histogram(tuple(edges), tuple(counts or [0] * (len(edges) - 1)), 0.0, 0.0)


def laplace_counts() -> tuple[int, ...]:
    """Bins of a Laplace law of scale 1.5, which is neither stable nor Gaussian."""

    def below(x: float) -> float:
        return math.exp(x / 1.5) / 2 if x < 0 else 1 - math.exp(-x / 1.5) / 2

    inner = [0.0, *map(below, NOISE_EDGES[1:-1]), 1.0]
    return tuple(round(64000 * (b - a)) for a, b in pairwise(inner))


def measurement(group: str, alpha: float, *, estimator: str = "grouped_mle", empty: bool = False) -> Measurement:
    """A group of some tail index; nothing but NaN and a note if there is none."""
    is_nan = empty or math.isnan(alpha)
    value = math.nan if is_nan else 1.0
    place = 0 if is_nan else min(int(alpha * 20), 49)
    alphas = None if is_nan else [10 * (i == place) + 5 * (i == place - 1) for i in range(50)]
    return Measurement(
        group=group,
        estimator=estimator,
        alpha=math.nan if is_nan else alpha,
        low=alpha - 0.2 * value,
        high=min(alpha + 0.1, 2.0) * value,
        gaussian_alpha=1.98 * value,
        scale=value,
        num_draws=64,
        num_coordinates=1000,
        group_size=5000,
        effective_coordinates=20.0,
        zero_share=0.0,
        gradient_norm=1.0,
        noise_norm=2.0,
        gain=value,
        gaussian_gain=value,
        law="none" if is_nan else "stable",
        student_t_gain=value,
        laplace_gain=value,
        gaussian_p_value=value,
        kolmogorov_distance=value,
        anderson_darling=value,
        gaussian_anderson_darling=value,
        shapiro_wilk=value,
        gaussian_shapiro_wilk=value,
        coordinate_median=alpha - 0.025,
        coordinate_harmonic_mean=alpha,
        aggregated=tuple(
            AggregatedTailIndex(k, 64 // k, alpha + 0.05 * k, alpha - 0.1, alpha + 0.1 * k, 1.97 * value)
            for k in (2, 4)
        ),
        note="no minibatch gave a draw" if is_nan else "",
        coordinate_alphas=histogram(ALPHA_EDGES, alphas),
        standardized_noise=histogram(NOISE_EDGES, None if is_nan else laplace_counts()),
    )


def report(step: int, minibatch_size: int = 16, **alphas: float) -> Report:
    """A report of groups and, last, the whole model, with a second estimator behind each."""
    groups = {**alphas, "whole_model": min(alphas.values())}
    found = [
        measurement(group, alpha + more, estimator=estimator)
        for group, alpha in groups.items()
        for estimator, more in (("grouped_mle", 0.0), ("group_sum", -0.3))
    ]
    return Report(step, tuple(found), num_full_minibatches=90, minibatch_size=minibatch_size, seconds=0.1)


def training() -> list[Report]:
    """Three reports of two layers."""
    return [report(step, conv1=2 - step / 1000, fc1=1.8 - step / 800) for step in (0, 300, 600)]


def sharpness_report(step: int, *eigenvalues: float, step_size: float = 0.1, limit: float = 2.0) -> SharpnessReport:
    residuals = tuple(value * 0 for value in eigenvalues)
    numbers = (math.nan, math.nan, 0.5, 0, (step_size,), limit, 44, 4, 16, 30, 0.1)
    return SharpnessReport(step, eigenvalues, residuals, *numbers)


def sharpness_reports() -> list[SharpnessReport]:
    """A training that sharpens up to where its step size is unstable; an eigenvalue is missing in the middle."""
    return [
        sharpness_report(0, 4.0, 2.0),
        sharpness_report(100, 12.0, math.nan),
        sharpness_report(200, 19.0, 6.0, step_size=0.05),
    ]
