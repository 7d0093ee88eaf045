"""Two real processes over gloo measure together, and train as if they had not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from .training_trace import Trace

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[int, list[dict[str, Any]]]]:
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "tests.callbacks.ddp_training", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("accumulation", [1, 2, "failing", "weights"])
def test_training_is_the_same_bit_for_bit_on_every_rank(ranks: list[Any], accumulation: int | str) -> None:
    for results in ranks:
        without, watched = (Trace({**run, "reports": None}) for run in results[accumulation])
        assert without.differences(watched) == []


def test_the_comparison_can_fail(ranks: list[Any]) -> None:
    for results in ranks:
        without, naive = (Trace({**run, "reports": None}) for run in results["naive"])
        assert "state" in without.differences(naive)
    first, second = (Trace(results[1][1]) for results in ranks)
    assert "batches" in first.differences(second)  # each rank trains on its own share


@pytest.mark.parametrize("accumulation", [1, 2])
def test_every_rank_holds_the_same_reports(ranks: list[Any], accumulation: int) -> None:
    reports = [results[accumulation][1]["reports"] for results in ranks]
    assert [report["step"] for report in reports[0]] == list(range(0, 20 // accumulation, 4))
    first, second = (Trace(dict(enumerate(part))) for part in reports)  # type: ignore[arg-type]
    assert first.differences(second) == []


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_minibatch_is_what_a_step_consumes_on_all_ranks(ranks: list[Any], accumulation: int) -> None:
    (report, *_) = ranks[0][accumulation][1]["reports"]
    assert report["minibatch_size"] == 4 * accumulation * 2


def test_a_measurement_that_fails_on_one_rank_is_dropped_on_all(ranks: list[Any]) -> None:
    for results in ranks:
        assert [report["step"] for report in results["failing"][1]["reports"]] == [0, 8, 12, 16]


def test_every_rank_sees_the_same_weights(ranks: list[Any]) -> None:
    own, other = (results["weights"][1]["reports"] for results in ranks)
    assert [report["step"] for report in own] == [0, 4, 8, 12, 16, 20, 0, 5, 10, 15, 20]  # of two monitors
    assert Trace({"reports": own}).differences(Trace({"reports": other})) == []
    assert Trace({"reports": own[:1]}).differences(Trace({"reports": own[1:2]})) == ["reports"]
    first, second, third = (exit["step"] for exit in own[-1]["exits"])
    assert 0 < first <= second <= 20
    assert third is None


def test_a_stream_with_workers_in_one_process_only(ranks: list[Any]) -> None:
    steps = [[report["step"] for report in results["workers of one rank"][0]["reports"]] for results in ranks]
    assert steps[0] == steps[1]
    assert len(steps[0]) > 1


def test_weights_that_differ_between_processes_are_told_of(ranks: list[Any]) -> None:
    own = "weights differ between processes: each measures its own, and loggers have those of the first"
    mean = "weights differ between processes: the Hessian is the mean of theirs"
    taken = "weights differ between processes: the gradients of each are taken at its own"
    for results in ranks:
        (apart,), (of_training,), (_, same) = (results[run] for run in ("apart", "apart of training", "weights"))
        # all begin with the same weights; steps 0, 4, 8, 12, 16, 20 of one monitor, 0, 5, 10, 15, 20 of the next, 0, 10
        *weights, first, last, before, after = apart["reports"]
        assert [own in report["note"] for report in weights] == [False, *[True] * 5, False, *[True] * 4]
        assert [mean in report["note"] for report in (first, last)] == [False, True]
        assert [taken in report["note"] for report in (before, after)] == [False, True]
        assert [own in report["note"] for report in of_training["reports"]] == [True]
        assert not any(own in report["note"] for report in same["reports"])
        assert not any("weights differ" in report["note"] for report in results[1][1]["reports"])
