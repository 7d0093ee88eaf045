"""An experiment over its grid of settings and several seeds, by Optuna; then a report of all its runs.

python examples/papers/sweep.py 1901.06053 --folder sweeps --quick
python examples/papers/sweep.py 1901.06053 --folder sweeps --only width=16,256 --only loss=cross_entropy
python examples/papers/sweep.py galkin_2021_lenet --folder sweeps --data.name mnist --data.data_dir DIR

Arguments that are not its own go to every training. Called again, it goes on where it was interrupted: what is complete
stays, what was cut short is trained anew.
"""

from __future__ import annotations

import argparse
import fcntl
import itertools
import logging
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import optuna
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from results import has
from worker import preload, train

from lightning_tailindex.report.cli import main as report
from lightning_tailindex.report.runs import read_runs

PAPERS = Path(__file__).parent
CONFIG = PAPERS / "config"
EXPERIMENTS = sorted(path.name.removesuffix(".sweep.yaml") for path in CONFIG.glob("*.sweep.yaml"))

Setting = dict[str, str | int | float]


def grid(experiment: str, seeds: int, quick: bool) -> list[Setting]:
    """Lists every combination of the settings in ``EXPERIMENT.sweep.yaml``, each with every seed.

    Args:
        experiment: Name of the experiment.
        seeds: How many seeds, from 0.
        quick: Whether of the first setting only the first two values are taken, and of all others the first.

    Returns:
        The combinations, those of the first seed first.
    """
    values = yaml.safe_load((CONFIG / f"{experiment}.sweep.yaml").read_text(encoding="utf-8"))
    if quick:
        values = {name: several[: 1 if place else 2] for place, (name, several) in enumerate(values.items())}
    settings = [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]
    return [{**setting, "seed_everything": seed} for seed in range(seeds) for setting in settings]


def kept(points: list[Setting], only: list[str]) -> list[Setting]:
    """Leaves the settings that have one of the values asked for.

    Args:
        points: All settings.
        only: ``NAME=VALUE,VALUE`` each, a setting's name without what stands before its last dot.

    Raises:
        ValueError: If nothing is left.
    """
    points = [point for point in points if has(point, only)]
    if not points:
        raise ValueError(f"only must leave some of the settings in the experiment's sweep.yaml, got {only}")
    return points


def named(setting: Setting) -> str:
    """Names a run by its setting."""
    return ",".join(f"{name.rpartition('.')[2]}={value}" for name, value in setting.items())


@dataclass(frozen=True)
class Sweep:
    """Runs of one experiment in a folder.

    Attributes:
        experiment: Name of the experiment.
        folder: Where the runs lie.
        quick: Whether the quick settings are laid over the experiment's.
        more: Further arguments of every training.
        lock: A locked file. Trainings inherit it, so that it stays locked as long as one of them lives.
    """

    experiment: str
    folder: Path
    quick: bool
    more: tuple[str, ...]
    lock: IO[str]

    def train(self, setting: Setting) -> int:
        """Trains in a process of its own, in place of what a killed one may have left.

        Returns:
            The number of reports in the run's event files: Optuna wants a number.

        Raises:
            RuntimeError: If training failed or nothing was measured.
        """
        run = self.folder / named(setting)
        output = run / "output.txt"
        shutil.rmtree(run, ignore_errors=True)
        run.mkdir()
        status = train(self._arguments(setting), output, self.lock.fileno())
        runs, problems = read_runs([run])
        if status or not runs:
            raise RuntimeError(f"{named(setting)} ended with {status}: {problems}; see {output}")
        logging.info("complete: %s", named(setting))
        return len(runs[0].reports)

    def _arguments(self, setting: Setting) -> list[str]:
        overlay = ["--config", str(CONFIG / "quick.yaml")] if self.quick else []
        logger = {"save_dir": self.folder, "name": named(setting), "version": ""}
        return [
            *("fit", "--config", str(CONFIG / f"{self.experiment}.yaml")),
            *overlay,
            "--trainer.enable_progress_bar=false",
            *(f"--trainer.logger.init_args.{name}={value}" for name, value in logger.items()),
            *self.more,
            *(f"--{name}={value}" for name, value in setting.items()),
        ]


def train_or_put_aside(runs: Sweep, setting: Setting, points: list[Setting]) -> int:
    """Trains what was asked for; what a larger call left waiting is put aside until it is asked for again."""
    if setting not in points:
        raise optuna.TrialPruned
    return runs.train(setting)


def opened(folder: Path, experiment: str, arguments: list[str]) -> optuna.Study:
    """Opens the journal of a folder, or begins one.

    Raises:
        ValueError: If its trainings had other arguments.
    """
    # Whoever was killed while writing leaves this one; the folder's own lock is held by now.
    (folder / "journal.log.lock").unlink(missing_ok=True)
    storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
    study = optuna.create_study(storage=storage, study_name=experiment, load_if_exists=True)
    before = study.user_attrs.get("arguments", arguments)
    if before != arguments:
        raise ValueError(f"{folder} holds trainings with the arguments {before}, and cannot go on with {arguments}")
    study.set_user_attr("arguments", arguments)
    return study


def enqueue(study: optuna.Study, points: list[Setting]) -> int:
    """Puts every setting into the queue that is neither complete nor waiting.

    A trial that says it is running was killed, since nobody else holds the lock.

    Returns:
        How many are waiting.
    """
    for trial in study.get_trials(states=[TrialState.RUNNING]):
        study.tell(trial.number, state=TrialState.FAIL)
    there = [t.user_attrs["setting"] for t in study.get_trials(states=[TrialState.COMPLETE, TrialState.WAITING])]
    for point in points:
        if point not in there:
            study.enqueue_trial({}, user_attrs={"setting": point})
    return len(study.get_trials(states=[TrialState.WAITING]))


def locked(folder: Path) -> IO[str]:
    """Locks a folder until this process and all trainings that it started have ended.

    Raises:
        ValueError: If another one has it.
    """
    lock = (folder / "lock").open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise ValueError(f"{folder} is in use: a sweep, or a training that a killed one left, still runs") from None
    return lock


def failures(study: optuna.Study, points: list[Setting]) -> Iterator[str]:
    """Names what is not complete."""
    complete = [trial.user_attrs["setting"] for trial in study.get_trials(states=[TrialState.COMPLETE])]
    yield from (named(point) for point in points if point not in complete)


def sweep(options: argparse.Namespace, more: list[str]) -> int:
    """Trains what is missing, and reports."""
    folder: Path = options.folder.resolve() / options.experiment
    points = kept(grid(options.experiment, options.seeds, options.quick), options.only)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder) as lock:
        study = opened(folder, options.experiment, ["quick"] * options.quick + more)
        preload(threads=max(1, (os.cpu_count() or 1) // options.workers))
        runs = Sweep(options.experiment, folder, options.quick, tuple(more), lock)
        waiting = enqueue(study, points)
        if waiting:  # Optuna takes 0 trials for no limit on them
            study.optimize(
                lambda trial: train_or_put_aside(runs, trial.user_attrs["setting"], points),
                n_trials=waiting,
                n_jobs=options.workers,
                catch=(RuntimeError,),
            )
        missing = list(failures(study, points))
    for name in missing:
        logging.error("not complete: %s", name)
    reported = report(["report", str(folder), "-o", str(folder / "report.html"), "--csv", str(folder / "numbers.csv")])
    return 1 if missing else reported


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.allow_abbrev = False  # --data is no short form of anything here
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--folder", type=Path, required=True, help="where the runs, their journal and the report go")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="trainings at once, one for each core")
    parser.add_argument("--seeds", type=int, default=3, help="seeds of each setting (default: %(default)s)")
    parser.add_argument("--only", action="append", default=[], metavar="NAME=VALUE,VALUE", help="of a setting's values")
    parser.add_argument("--quick", action="store_true", help="two settings, a few steps each")
    options, more = parser.parse_known_args()
    for name in ("workers", "seeds"):
        if getattr(options, name) < 1:
            parser.error(f"{name} must be at least 1, got {getattr(options, name)}")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        return sweep(options, more)
    except ValueError as error:
        parser.error(str(error))


if __name__ == "__main__":
    sys.exit(main())
