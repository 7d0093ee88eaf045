"""What varied between runs, and what sums a run up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress

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

# Before the names of a monitor's arguments, which are logged where the module has no hyperparameters.
_OWN = "TailIndexMonitor/"
# Of these, what changes no number.
_SHOWN = tuple(f"{_OWN}{name}" for name in ("figures", "figures_every", "max_detailed_groups", "on_error"))
_OTHERS = ("FirstExitMonitor/", "IterateTailIndexMonitor/", "SharpnessMonitor/", "WeightSpectrumMonitor/")


def last_median(run: Run) -> float:
    """Finds the median tail index of the whole model over the last reports that have one; NaN if none has."""
    return median_alpha(report.whole_model for report in run.reports[-LAST:])


def _columns(rows: Sequence[Mapping[str, Value]]) -> dict[str, list[Value]]:
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name, MISSING) for row in rows] for name in names}


def _trained(run: Run) -> dict[str, Value]:
    """What a run was trained with; monitors leave that as it is."""
    return {name: value for name, value in run.hparams.items() if not name.startswith((_OWN, *_OTHERS))}


def _measured(run: Run) -> dict[str, Value]:
    """How its noise was measured; an argument that is among the settings counts once."""
    settings: dict[str, Value] = {f"{name} (of the measurement)": value for name, value in run.settings.items()}
    twice = {f"{_OWN}{name}" for name in run.settings}
    others = {name: value for name, value in run.hparams.items() if name.startswith(_OWN) and name not in twice}
    return settings | {name: value for name, value in others.items() if not name.startswith(_SHOWN)}


def _differs(name: str, values: Sequence[Value], runs: Sequence[Run]) -> bool:
    # what was logged of no argument at all is not known to differ in one
    is_known = [not name.startswith(_OWN) or any(n.startswith(_OWN) for n in run.hparams) for run in runs]
    return len(set(compress(values, is_known))) > 1


def varied(runs: Sequence[Run]) -> dict[str, list[Value]]:
    """Finds the hyperparameters, and the settings of the measurement, in which runs differ, with the value of each run.

    Args:
        runs: The runs.

    Returns:
        The values by name: first hyperparameters, then the minibatch size, unless it differs as one of them does, then
        how the gradient noise was measured. Arguments of other monitors, which change neither the training nor that,
        are none of it.
    """
    found = _columns([_trained(run) for run in runs])
    sizes: list[Value] = [run.reports[-1].minibatch_size for run in runs]
    if sizes not in found.values():
        found[MINIBATCH_SIZE] = sizes
    found |= _columns([_measured(run) for run in runs])
    return {name: values for name, values in found.items() if _differs(name, values, runs)}


def rest_of(differing: Mapping[str, Sequence[Value]], name: str) -> list[tuple[Value, ...]]:
    """Finds, for each run, the values of all that differs but one.

    Example:
        >>> rest_of({"width": [32, 64], "depth": [2, 3], "step_size": [0.1, 0.1]}, "width")
        [(2, 0.1), (3, 0.1)]
    """
    others = [values for other, values in differing.items() if other != name]
    return list(zip(*others, strict=True)) if others else [()] * len(differing[name])
