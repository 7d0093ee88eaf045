"""A report to each logger; the one home of every name that users see."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from .records import Histogram, Measurement, Report

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

__all__ = ["callback_metrics", "emit", "monitored", "scalars"]

_DETAILS = {
    "tail_index_detail/low": "low",
    "tail_index_detail/high": "high",
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


def _headline(measurement: Measurement) -> Iterator[tuple[str, float]]:
    yield f"tail_index/{measurement.group}", measurement.alpha
    yield f"tail_index_gaussian/{measurement.group}", measurement.gaussian_alpha
    for tag, name in _DETAILS.items():
        yield f"{tag}/{measurement.group}", getattr(measurement, name)
    for average in measurement.aggregated:
        tag = f"tail_index_aggregated/{average.num_minibatches}_minibatches"
        yield f"{tag}/{measurement.group}", average.alpha
        yield f"{tag}_gaussian/{measurement.group}", average.gaussian_alpha


def _second_opinion(measurement: Measurement) -> Iterator[tuple[str, float]]:
    """An estimator after the first: its numbers, without repeating what does not depend on the estimator."""
    tag = f"tail_index_detail/{measurement.estimator}"
    yield f"{tag}/{measurement.group}", measurement.alpha
    yield f"{tag}_gaussian/{measurement.group}", measurement.gaussian_alpha
    yield f"{tag}_low/{measurement.group}", measurement.low
    yield f"{tag}_high/{measurement.group}", measurement.high


def _is_headline(measurement: Measurement, report: Report) -> bool:
    return measurement.estimator == report.measurements[0].estimator


def scalars(report: Report) -> dict[str, float]:
    """Names the numbers of a report.

    Args:
        report: The report.

    Returns:
        Every scalar by its tag.
    """
    values: dict[str, float] = {}
    for measurement in report.measurements:
        values.update(_headline(measurement) if _is_headline(measurement, report) else _second_opinion(measurement))
    whole = report.whole_model.group
    values[f"gradient_noise/cost_seconds/{whole}"] = report.seconds
    values[f"gradient_noise/minibatch_size/{whole}"] = report.minibatch_size
    return values


def monitored(report: Report) -> dict[str, float]:
    """Names what EarlyStopping and ModelCheckpoint can monitor; without a slash, which would make folders.

    Args:
        report: The report.

    Returns:
        The whole model's tail index and its surrogate's.
    """
    whole = report.whole_model
    return {"tail_index": whole.alpha, "tail_index_gaussian": whole.gaussian_alpha}


def callback_metrics(values: Mapping[str, float]) -> dict[str, Tensor]:
    """Makes the tensors that ``trainer.callback_metrics`` holds.

    Args:
        values: What :func:`monitored` returned.

    Returns:
        Scalars by the same names.
    """
    return {name: torch.tensor(value) for name, value in values.items()}


def _histograms(report: Report) -> Iterator[tuple[str, Histogram]]:
    for measurement in report.measurements:
        if _is_headline(measurement, report):
            yield f"tail_index_per_coordinate/{measurement.group}", measurement.coordinate_alphas
            yield f"standardized_noise/{measurement.group}", measurement.standardized_noise


def _add_histogram(writer: SummaryWriter, tag: str, histogram: Histogram, step: int) -> None:
    filled = [i for i, count in enumerate(histogram.counts) if count]
    if not filled:
        return  # a group without a usable draw has nothing to show
    writer.add_histogram_raw(
        tag,
        # TensorBoard cuts empty bins at the ends and stretches the next to these limits
        min=histogram.edges[filled[0]],
        max=histogram.edges[filled[-1] + 1],
        num=sum(histogram.counts),
        sum=histogram.total,
        sum_squares=histogram.total_squares,
        bucket_limits=list(histogram.edges[1:]),
        bucket_counts=list(histogram.counts),
        global_step=step,
    )


def _laws(report: Report) -> str:
    """A table in Markdown: which law fits the noise of each group best."""
    rows = [m for m in report.measurements if _is_headline(m, report)]
    lines = [f"| {m.group} | {m.law} | {m.alpha:.2f} | {m.gaussian_p_value:.3f} |" for m in rows]
    return "\n".join(["| group | best law | α | p-value of the Gaussian |", "|---|---|---|---|", *lines])


def _unit(report: Report) -> str:
    """A sentence in Markdown: what a draw is."""
    what = {"step": "what an optimizer step consumes", "loader": "one loader batch of one rank"}[report.noise_unit]
    return f"**{report.noise_unit}**: a draw is {what}, {report.minibatch_size} samples"


def emit(report: Report, loggers: Iterable[Logger]) -> None:
    """Logs a report at its own step: scalars everywhere, histograms where the logger takes them.

    Args:
        report: The report.
        loggers: The trainer's loggers.
    """
    values = scalars(report)
    for logger in loggers:
        logger.log_metrics(dict(values), step=report.step)  # a copy each: some loggers write into what they are given
        experiment = getattr(logger, "experiment", None)
        if isinstance(experiment, SummaryWriter):
            for tag, histogram in _histograms(report):
                _add_histogram(experiment, tag, histogram, report.step)
            experiment.add_text("tail_index_law", _laws(report), report.step)
            experiment.add_text("gradient_noise_unit", _unit(report), report.step)
