"""A sweep of an experiment: its grid, its lock, and that one killed half-way goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from examples.papers.sweep import (
    CONFIG,
    EXPERIMENTS,
    Sweep,
    enqueue,
    grid,
    kept,
    locked,
    named,
    opened,
    train_or_put_aside,
)

ROOT = Path(__file__).parents[2]
ARGUMENTS = ["--trainer.max_steps=2", "--trainer.accelerator=cpu"]
POINTS = grid("galkin_2021_lenet", 1, quick=True)


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "ignore", str(ROOT / "examples/papers/sweep.py"), "galkin_2021_lenet", "--quick"]
    return subprocess.Popen(
        [*command, "--seeds=1", "--workers=1", f"--folder={folder}", *ARGUMENTS, *more],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def events(folder: Path) -> dict[str, list[tuple[str, int]]]:
    """The event files of each run, and when they were last written to."""
    found = {named(point): (folder / named(point)).glob("*tfevents*") for point in POINTS}
    return {run: sorted((file.name, file.stat().st_mtime_ns) for file in files) for run, files in found.items()}


def states(folder: Path) -> Counter[tuple[str, str]]:
    study = opened(folder, "galkin_2021_lenet", ["quick", *ARGUMENTS])
    return Counter((named(trial.user_attrs["setting"]), trial.state.name) for trial in study.get_trials())


def wait_for(sweep: subprocess.Popen[str], run: Path) -> None:
    """Waits until a training has begun to write, after which it needs a while."""
    for _ in range(1500):
        if any(run.glob("*tfevents*")):
            return
        assert sweep.poll() is None, sweep.communicate()[1][-3000:]
        time.sleep(0.1)
    pytest.fail(f"{run} was not begun")


@pytest.mark.long  # four trainings in processes of their own
def test_a_killed_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    folder = tmp_path / "galkin_2021_lenet"
    first, second = (named(point) for point in POINTS)
    sweep = start(tmp_path)
    wait_for(sweep, folder / second)
    os.kill(sweep.pid, signal.SIGKILL)
    sweep.wait()
    with pytest.raises(ValueError, match="is in use: a sweep, or a training that a killed one left"):
        locked(folder)
    os.killpg(sweep.pid, signal.SIGKILL)
    sweep.communicate()
    (folder / "journal.log.lock").touch()  # as one killed while writing would leave it
    assert states(folder) == {(first, "COMPLETE"): 1, (second, "RUNNING"): 1}
    before = events(folder)

    again = start(tmp_path)
    told = again.communicate(timeout=160)[1]
    assert again.returncode == 0, told[-3000:]
    assert f"complete: {second}" in told
    assert f"complete: {first}" not in told
    assert states(folder) == {(first, "COMPLETE"): 1, (second, "FAIL"): 1, (second, "COMPLETE"): 1}
    after = events(folder)
    assert after[first] == before[first]
    assert len(after[second]) == 1
    assert after[second] != before[second]  # the control: what is trained again is seen to be
    assert "2 runs" in told
    assert len((folder / "numbers.csv").read_text().splitlines()) > 2
    assert (folder / "report.html").stat().st_size > 10_000
    with pytest.raises(ValueError, match=r"holds trainings with the arguments \['quick', .* go on with \['quick'\]"):
        opened(folder, "galkin_2021_lenet", ["quick"])


@pytest.mark.long  # a training in a process of its own
def test_what_fails_is_named_and_tried_again(tmp_path: Path) -> None:
    sweep = start(tmp_path, "--only=batch_size=50", "--model.init_args.width=3")
    told = sweep.communicate(timeout=160)[1]
    assert sweep.returncode == 1
    assert f"not complete: {named(POINTS[0])}" in told
    study = opened(
        tmp_path / "galkin_2021_lenet", "galkin_2021_lenet", ["quick", *ARGUMENTS, "--model.init_args.width=3"]
    )
    assert enqueue(study, POINTS) == len(POINTS)


def test_what_a_larger_call_left_waiting_is_put_aside(tmp_path: Path) -> None:
    study, first, second = opened(tmp_path, "some", []), *POINTS
    enqueue(study, [first, second])
    runs, trained = Sweep("some", tmp_path, True, (), locked(tmp_path)), []
    for _ in range(enqueue(study, [second])):
        setting = study.ask().user_attrs["setting"]
        try:
            train_or_put_aside(runs, setting, [second])
        except optuna.TrialPruned:
            assert setting == first
        except RuntimeError as error:  # such an experiment has no configuration
            trained.append(str(error))
    assert len(trained) == 1
    assert trained[0].startswith(named(second))
    assert "some.yaml" in (tmp_path / named(second) / "output.txt").read_text()
    runs.lock.close()


def test_without_its_journal_everything_is_trained_anew(tmp_path: Path) -> None:
    study = opened(tmp_path, "some", [])
    assert enqueue(study, POINTS) == len(POINTS)
    assert enqueue(study, POINTS) == len(POINTS)  # waiting is not queued twice
    for _ in POINTS:
        study.tell(study.ask(), 1.0)
    assert enqueue(study, POINTS) == 0
    more = grid("galkin_2021_lenet", 2, quick=True)
    assert enqueue(study, more) == len(more) - len(POINTS)
    (tmp_path / "journal.log").unlink()
    fresh = opened(tmp_path, "some", [])
    assert enqueue(fresh, POINTS) == len(POINTS)
    assert {trial.state for trial in fresh.get_trials()} == {TrialState.WAITING}


def test_a_folder_is_locked_as_long_as_a_training_lives(tmp_path: Path) -> None:
    lock = locked(tmp_path)
    with subprocess.Popen(["sleep", "60"], pass_fds=[lock.fileno()]) as training:
        lock.close()  # as when the sweep is killed
        with pytest.raises(ValueError, match="is in use: a sweep, or a training that a killed one left"):
            locked(tmp_path)
        training.kill()
    locked(tmp_path).close()


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_grid_has_every_setting_with_every_seed_once(experiment: str) -> None:
    points = [json.dumps(point) for point in grid(experiment, 3, quick=False)]
    assert len(set(points)) == len(points) == 3 * len(grid(experiment, 1, quick=False))
    assert len({named(json.loads(point)) for point in points}) == len(points)
    assert len(grid(experiment, 1, quick=True)) == 2
    assert (CONFIG / f"{experiment}.yaml").is_file()


def test_some_values_of_a_grid() -> None:
    points = kept(grid("1901.06053", 2, quick=False), ["width=16,64", "loss=linear_hinge"])
    assert {point["model.init_args.width"] for point in points} == {16, 64}
    assert {point["model.init_args.loss"] for point in points} == {"linear_hinge"}
    assert len(points) == 2 * 2 * 3
    with pytest.raises(ValueError, match=r"only must leave some of the settings .* got \['width=3'\]"):
        kept(points, ["width=3"])
