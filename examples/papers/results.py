"""What the runs of a sweep logged, and what its seeds say together."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import median

from lightning_tailindex.report.compare import varied
from lightning_tailindex.report.events import Events, read_events
from lightning_tailindex.report.runs import Run, read_runs

__all__ = ["data_of", "has", "known", "middle", "read", "scalars_of", "settings", "spread", "up_to"]


def has(values: Mapping[str, object], rules: Sequence[str]) -> bool:
    """Says whether settings have one of the values asked for.

    Args:
        values: The settings, by names of which only what stands behind the last dot counts.
        rules: ``NAME=VALUE,VALUE`` each.
    """
    short = {name.rpartition(".")[2]: str(value) for name, value in values.items()}
    parted = [rule.partition("=") for rule in rules]
    return all(short.get(name) in several.split(",") for name, _, several in parted)


def read(folder: Path, only: Sequence[str] = ()) -> list[Run]:
    """Reads the runs of a sweep.

    Args:
        folder: Folder of the sweep, or of runs of one experiment.
        only: Hyperparameters that they have to have, as :func:`has` takes them.

    Raises:
        ValueError: If there are none, or if one does not tell its data and its seed.
    """
    found, problems = read_runs([folder])
    runs = [run for run in found if has(run.hparams, only)]
    if not runs:
        wanted = " and ".join(["reports", *only])
        raise ValueError(f"folder must hold runs with {wanted}, got {folder} of {len(found)}: {'; '.join(problems)}")
    for run in runs:
        if not {"data", "seed"} <= set(run.hparams):
            raise ValueError(f"folder must hold runs of run.py, which log data and seed, got {run.name}")
    return runs


def settings(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Puts the runs together that differ in nothing but the seed, by what they differ in from the others, in order.

    Raises:
        ValueError: If two of them have the same seed.
    """
    differing = {name: values for name, values in varied(runs).items() if name != "seed"}
    together = defaultdict(list)
    for place, run in enumerate(runs):
        together[tuple(values[place] for values in differing.values())].append(run)
    for own in together.values():
        if len({run.hparams["seed"] for run in own}) < len(own):
            raise ValueError(f"folder must hold one run for each seed, got {', '.join(run.name for run in own)}")
    ordered = sorted(together, key=lambda key: [(isinstance(value, str), value) for value in key])
    return {_named(differing, key): together[key] for key in ordered}


def _named(names: Iterable[str], values: Iterable[object]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True)) or "all"


def scalars_of(run: Run) -> dict[str, dict[int, float]]:
    """Every scalar of a run by tag and step."""
    events, place = Events(), Path(run.name)
    for file in sorted(place.glob("*tfevents*")) if place.is_dir() else [place]:
        read_events(file, events)
    return events.scalars


def up_to(by_step: Mapping[int, float], step: float) -> float:
    """The last number up to a step; NaN where there is none."""
    return by_step[max(before)] if (before := [each for each in by_step if each <= step]) else math.nan


def known(values: Iterable[float]) -> list[float]:
    """What is not NaN."""
    return [value for value in values if not math.isnan(value)]


def middle(values: Iterable[float]) -> float:
    """The median of what is not NaN; NaN where there is nothing else."""
    found = known(values)
    return median(found) if found else math.nan


def spread(values: Sequence[float]) -> str:
    """The median and, where there are several, the least and the largest; how many, where one is NaN."""
    found = known(values)
    if not found:
        return "none"
    numbers = [f"{choose(found):.3g}" for choose in (median, min, max)]
    told = numbers[0] if numbers[1] == numbers[2] else "{} ({} to {})".format(*numbers)
    return told if len(found) == len(values) else f"{told}, {len(found)} of {len(values)}"


def data_of(runs: Sequence[Run]) -> str:
    """Names the data, and how many seeds there are."""
    data = " and ".join(sorted({str(run.hparams["data"]) for run in runs}))
    return f"{data}, {len({run.hparams['seed'] for run in runs})} seeds"
