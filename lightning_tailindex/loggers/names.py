"""The one home of the names that users see of the gradient noise: numbers, histograms and tables by their tags."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from lightning_tailindex.records import Histogram, Measurement, Report

from .sink import Table

__all__ = ["ALPHA", "GAUSSIAN_ALPHA", "HIGH", "LOW", "aggregated", "callback_metrics", "detailed_groups", "histograms"]
__all__ += ["check_names", "largest", "laws", "monitored", "of_groups", "scalars"]

ALPHA, GAUSSIAN_ALPHA = "tail_index", "tail_index_gaussian"
LOW, HIGH = "tail_index_detail/low", "tail_index_detail/high"

_DETAILS = {
    LOW: "low",
    HIGH: "high",
    "tail_index_detail/gain": "gain",
    "tail_index_detail/gain_gaussian": "gaussian_gain",
    "tail_index_detail/gain_student_t": "student_t_gain",
    "tail_index_detail/gain_laplace": "laplace_gain",
    "tail_index_detail/gaussian_p_value": "gaussian_p_value",
    "tail_index_detail/kolmogorov_distance": "kolmogorov_distance",
    "tail_index_detail/effective_coordinates": "effective_coordinates",
    "tail_index_detail/coordinate_median": "coordinate_median",
    "tail_index_detail/coordinate_harmonic_mean": "coordinate_harmonic_mean",
    "gradient_noise/anderson_darling_acceptance": "anderson_darling",
    "gradient_noise/anderson_darling_acceptance_gaussian": "gaussian_anderson_darling",
    "gradient_noise/shapiro_wilk_acceptance": "shapiro_wilk",
    "gradient_noise/shapiro_wilk_acceptance_gaussian": "gaussian_shapiro_wilk",
    "gradient_noise/scale": "scale",
    "gradient_noise/norm": "noise_norm",
    "gradient_noise/full_gradient_norm": "gradient_norm",
    "gradient_noise/signal_to_noise": "signal_to_noise",
    "gradient_noise/zero_share": "zero_share",
}
"""Where each field of a measurement is logged, before the group's name."""


_SECTION = "tail_index_detail/"
_OF_ESTIMATE = {"": "alpha", "_gaussian": "gaussian_alpha", "_low": "low", "_high": "high"}
"""What is logged of a further estimator, behind its name."""


def aggregated(num_minibatches: int) -> str:
    """Says where the tail index of averages of so many minibatches is logged, before the group's name."""
    return f"tail_index_aggregated/{num_minibatches}_minibatches"


def _headline(measurement: Measurement) -> Iterator[tuple[str, float]]:
    yield f"{ALPHA}/{measurement.group}", measurement.alpha
    yield f"{GAUSSIAN_ALPHA}/{measurement.group}", measurement.gaussian_alpha


def _details(measurement: Measurement) -> Iterator[tuple[str, float]]:
    for tag, name in _DETAILS.items():
        yield f"{tag}/{measurement.group}", getattr(measurement, name)
    for average in measurement.aggregated:
        tag = aggregated(average.num_minibatches)
        yield f"{tag}/{measurement.group}", average.alpha
        yield f"{tag}_gaussian/{measurement.group}", average.gaussian_alpha
        yield f"{tag}_low/{measurement.group}", average.low
        yield f"{tag}_high/{measurement.group}", average.high


def _second_opinion(measurement: Measurement) -> Iterator[tuple[str, float]]:
    """An estimator after the first: its numbers, without repeating what does not depend on the estimator."""
    for of, field in _OF_ESTIMATE.items():
        yield f"{_SECTION}{measurement.estimator}{of}/{measurement.group}", getattr(measurement, field)


def check_names(estimators: Sequence[str]) -> None:
    """Refuses estimators under whose names other numbers are logged.

    Args:
        estimators: Their names, that of the headline first.

    Raises:
        ValueError: If one of the others is empty, has a slash, or is what a tag of another number ends with.
    """
    taken = {tag.removeprefix(_SECTION) for tag in _DETAILS}
    for name in estimators[1:]:
        own = {f"{name}{of}" for of in _OF_ESTIMATE}
        if not name or "/" in name or own & taken:
            raise ValueError(f"estimators must have names that tags can have and other numbers have not, got {name!r}.")
        taken |= own


def largest(sizes: Mapping[str, int], most: int | None) -> list[str]:
    """Chooses the largest of what has a size, in the order given; all of it where ``most`` is None.

    Example:
        >>> largest({"conv": 10, "bias": 1, "fc": 30}, 2)
        ['conv', 'fc']
    """
    chosen = set(sorted(sizes, key=lambda name: -sizes[name])[:most])
    return [name for name in sizes if name in chosen]


def detailed_groups(report: Report, most: int | None) -> list[str]:
    """Chooses the groups that are logged in detail: the largest, which hardly ever change, and the whole model.

    Args:
        report: The report.
        most: Groups beside the whole model; None for all.

    Returns:
        Their names in the report's order, the whole model last.
    """
    *groups, whole = report.headline
    return [*largest({measurement.group: measurement.group_size for measurement in groups}, most), whole.group]


def scalars(report: Report, detailed: Collection[str] | None = None) -> dict[str, float]:
    """Names the numbers of a report.

    Args:
        report: The report.
        detailed: Groups of which all numbers are wanted, not only the tail index and its surrogate's; None for all.

    Returns:
        Every scalar by its tag.
    """
    values, first = dict[str, float](), report.whole_model.estimator
    wanted = None if detailed is None else frozenset(detailed)
    for measurement in report.measurements:
        is_headline = measurement.estimator == first
        if is_headline:
            values.update(_headline(measurement))
        if wanted is None or measurement.group in wanted:
            values.update(_details(measurement) if is_headline else _second_opinion(measurement))
    whole = report.whole_model.group
    values[f"gradient_noise/cost_seconds/{whole}"] = report.seconds
    values[f"gradient_noise/minibatch_size/{whole}"] = report.minibatch_size
    values[f"gradient_noise/draws/{whole}"] = report.whole_model.num_draws
    return values


def of_groups(shown: int, total: int) -> str:
    """Says which groups stand beside the whole model, given their number and that of all groups.

    Example:
        >>> of_groups(3, 3), of_groups(5, 100)
        ('its groups', 'the 5 largest of 100 groups')
    """
    return f"the {shown} largest of {total} groups" if shown < total else "its groups"


def monitored(report: Report) -> dict[str, float]:
    """Names what EarlyStopping and ModelCheckpoint can monitor; without a slash, which would make folders.

    Args:
        report: The report.

    Returns:
        The whole model's tail index and its surrogate's.
    """
    whole = report.whole_model
    return {ALPHA: whole.alpha, GAUSSIAN_ALPHA: whole.gaussian_alpha}


def callback_metrics(values: Mapping[str, float]) -> dict[str, Tensor]:
    """Makes the tensors that ``trainer.callback_metrics`` holds.

    Args:
        values: What a presentation's ``monitored`` returned, or NaN for each of its ``metrics``.

    Returns:
        Scalars by the same names.
    """
    return {name: torch.tensor(value, dtype=torch.float32, device="cpu") for name, value in values.items()}


def histograms(report: Report, detailed: Collection[str] | None = None) -> dict[str, Histogram]:
    """Names the histograms of a report.

    Args:
        report: The report.
        detailed: Groups of which they are wanted; None for all.

    Returns:
        Every histogram that has a value in it by its tag.
    """
    found: dict[str, Histogram] = {}
    for m in report.headline:
        if detailed is None or m.group in detailed:
            found[f"tail_index_per_coordinate/{m.group}"] = m.coordinate_alphas
            found[f"standardized_noise/{m.group}"] = m.standardized_noise
    return {tag: histogram for tag, histogram in found.items() if any(histogram.counts)}


def laws(report: Report) -> dict[str, Table]:
    """Makes the table of which law fits the noise of each group best.

    Args:
        report: The report.

    Returns:
        The table by its tag.
    """
    cells = tuple((m.group, m.law, f"{m.alpha:.2f}", f"{m.gaussian_p_value:.3f}", m.note) for m in report.headline)
    return {"tail_index_law": Table(("group", "best law", "α", "p-value of the Gaussian", "note"), cells)}
