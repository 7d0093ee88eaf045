"""Runs, found in folders and read."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning_tailindex.loggers.noise import HEADLINE
from lightning_tailindex.records import Report

from .events import Events, read_events
from .hparams import Value, plain, read_hparams
from .names import LAWS, is_ours
from .progress import Progress, silent
from .rebuild import rebuilt, rows_of_table

__all__ = ["Run", "read_runs"]

_EVENT_FILES = "*tfevents*"
_SETTINGS = (HEADLINE, "source", "noise_unit", "max_coordinates")


@dataclass(frozen=True)
class Run:
    """One training, as it was logged.

    Attributes:
        name: Its folder, or its file where a file was asked for.
        reports: Its reports by step, at least one.
        hparams: Its hyperparameters by name.
        texts: What the monitor said of the measurement, in Markdown by tag.
    """

    name: str
    reports: tuple[Report, ...]
    hparams: Mapping[str, Value]
    texts: Mapping[str, str]

    @property
    def setup(self) -> list[tuple[str, str]]:
        """What the monitor said of the measurement, from tables of two columns."""
        rows = [row for text in self.texts.values() for row in rows_of_table(text)[1:]]
        return [(row[0], row[1]) for row in rows if len(row) == 2]

    @property
    def settings(self) -> dict[str, Value]:
        """Settings of the measurement that say whether its tail indices can be compared with another run's."""
        return {name: value for name, value in self.setup if name in _SETTINGS}


def _files(path: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Finds each run in a folder or below it, with its event files, oldest first."""
    if path.is_dir():
        for folder in sorted({file.parent for file in path.rglob(_EVENT_FILES)}):
            yield folder, sorted(folder.glob(_EVENT_FILES))
    elif path.exists():
        yield path, [path]


def read_runs(paths: Iterable[str | os.PathLike[str]], progress: Progress = silent) -> tuple[list[Run], list[str]]:
    """Reads the runs of folders of event files, and of all folders below them.

    Args:
        paths: Folders, or single event files.
        progress: Shows how far it is.

    Returns:
        The runs in which something was measured, each once, and what could not be read or is not a measurement, in
        words. Nothing that a file holds raises an error.

    Example:
        >>> read_runs(["no/such/folder"])
        ([], ['no/such/folder: there is no such file or folder'])
    """
    found, problems, seen = list[tuple[Path, list[Path]]](), list[str](), set[Path]()
    for path in map(Path, paths):
        new = [(place, files) for place, files in _files(path) if not {each.resolve() for each in files} <= seen]
        seen.update(each.resolve() for _, files in new for each in files)
        found += new
        if not path.exists():
            problems.append(f"{path}: there is no such file or folder")
        elif path.is_dir() and not any(path.rglob(_EVENT_FILES)):
            problems.append(f"{path}: no event files of TensorBoard in it or below it")
    runs = list[Run]()
    for place, files in progress(found, "reading"):
        run, more = _read(place, files)
        runs += [run] if run else []
        problems += more
    return runs, list(dict.fromkeys(problems))


def _read(place: Path, files: list[Path]) -> tuple[Run | None, list[str]]:
    events, problems = Events(), list[str]()
    for file in files:
        problem = read_events(file, events)
        problems += [f"{file}: {problem}"] if problem else []
    written, problem = read_hparams(place if place.is_dir() else place.parent)
    problems += [problem] if problem else []
    reports, left_out = rebuilt(events)
    problems += [f"{place}: {left_out}"] if left_out else []
    if not reports:
        if events.count:
            problems.append(f"{place}: {events.count} events, but none that TailIndexMonitor has logged in full")
        return None, problems
    more = {name: plain(events.hparams[name]) for name in sorted({*events.hparams} - {*written})}
    texts = {tag: steps[max(steps)] for tag, steps in events.texts.items() if is_ours(tag) and tag != LAWS}
    name = str(place) if place.name else place.resolve().name  # "." says nothing
    return Run(name, tuple(reports), {**written, **more}, texts), problems
