"""What varied between runs, and what sums a run up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lightning_tailindex.figures._choice import median_alpha

from .hparams import Value
from .runs import Run

__all__ = ["LAST", "MINIBATCH_SIZE", "MISSING", "last_median", "rest_of", "varied"]

LAST = 5
"""Reports at the end of a run that a median is of."""

MISSING = "not given"
"""What stands for a hyperparameter that a run does not have."""

MINIBATCH_SIZE = "minibatch size (measured)"
"""The name of the samples in a draw, beside the hyperparameters."""


def last_median(run: Run) -> float:
    """Finds the median tail index of the whole model over the last reports that have one; NaN if none has."""
    return median_alpha(report.whole_model for report in run.reports[-LAST:])


def varied(runs: Sequence[Run]) -> dict[str, list[Value]]:
    """Finds the hyperparameters, and the settings of the measurement, in which runs differ, with the value of each run.

    Args:
        runs: The runs.

    Returns:
        The values by name; last the minibatch size, unless it differs as a hyperparameter does.
    """
    settings = [{f"{name} (of the measurement)": value for name, value in run.settings.items()} for run in runs]
    known = [{**run.hparams, **own} for run, own in zip(runs, settings, strict=True)]
    names = dict.fromkeys(name for each in known for name in each)
    found = {name: [each.get(name, MISSING) for each in known] for name in names}
    sizes: list[Value] = [run.reports[-1].minibatch_size for run in runs]
    if sizes not in found.values():
        found[MINIBATCH_SIZE] = sizes
    return {name: values for name, values in found.items() if len(set(values)) > 1}


def rest_of(differing: Mapping[str, Sequence[Value]], name: str) -> list[tuple[Value, ...]]:
    """Finds, for each run, the values of all that differs but one.

    Example:
        >>> rest_of({"width": [32, 64], "depth": [2, 3], "step_size": [0.1, 0.1]}, "width")
        [(2, 0.1), (3, 0.1)]
    """
    others = [values for other, values in differing.items() if other != name]
    return list(zip(*others, strict=True)) if others else [()] * len(differing[name])
