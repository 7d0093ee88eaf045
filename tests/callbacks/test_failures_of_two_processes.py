"""Where one of two processes fails while it measures, the other does not wait for it, and both train on as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.forked import in_two_processes

from .training_trace import Trace

EVERY_4 = list(range(0, 20, 4))
STEPS = {
    "data": [0, 12, 16],
    "data, every coordinate": [0, 12, 16],
    "training_step": [0, 12, 16],
    "training_step, every coordinate": [0, 12, 16],
    "estimator": [0, 12, 16],
    "full gradient": [0, 12, 16],
    "a draw, every coordinate": [0, 12, 16],
    "averages, every coordinate": [0, 12, 16],
    "whether it is ready": [0, 5, 9, 12, 16],  # the first process waits with the second
    "a step of training": [41, *range(44, 80, 4)],  # 32 steps in a row after the second failure
    "the steps of training": list(range(36, 80, 4)),
    "a stream": [16, 20, 24, 28, 32, 36],
    "a batch of a stream": [17, 20, 24, 28, 32, 36],  # the second process has enough of them a step later
    "every batch of a stream": [],
}
"""At which steps there is a report; failures at steps 4 and 8."""


SCRIPT = "tests.callbacks.ddp_failures"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    codes, said = in_two_processes(SCRIPT, folder, timeout=200)
    assert codes == [0, 0], said[-3000:]
    (folder / "said.txt").write_text(said)
    return folder


@pytest.fixture(scope="module")
def ranks(folder: Path) -> list[dict[str, list[dict[str, Any]]]]:
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("stage", STEPS)
def test_every_rank_trains_bit_for_bit_as_without(ranks: list[Any], stage: str) -> None:
    for results in ranks:
        without, watched = (Trace({**run, "reports": None}) for run in results[stage])
        assert without.differences(watched) == []
        steps = 80 if "training" in stage and "_" not in stage else 40 if "stream" in stage else 20
        assert len(watched.values["gradients"]) == steps  # type: ignore[arg-type]


def test_the_comparison_can_fail(ranks: list[Any]) -> None:
    for results in ranks:
        without, other = (Trace({**results[stage][0], "reports": None}) for stage in ("data", "a stream"))
        assert {"state", "batches", "gradients"} <= set(without.differences(other))


@pytest.mark.parametrize("stage", STEPS)
def test_all_ranks_have_the_same_reports(ranks: list[Any], stage: str) -> None:
    first, second = (results[stage][1]["reports"] for results in ranks)
    assert [report["step"] for report in first] == STEPS[stage]
    assert Trace(dict(enumerate(first))).differences(Trace(dict(enumerate(second)))) == []  # type: ignore[arg-type]


def test_each_failure_is_told_once_by_each_rank(folder: Path) -> None:
    said = [line for line in (folder / "said.txt").read_text().splitlines() if "TailIndexMonitor: the m" in line]
    assert len([line for line in said if "broken on purpose" in line]) == 7
    # of the second failure's step, and of others at step 4 with the same text, which Python shows once
    assert len([line for line in said if "OtherProcessError: another process could not measure" in line]) == 2
    assert len(said) == 9


@pytest.mark.parametrize(
    ("stage", "errors"),
    [
        ("training_step", ("OtherProcessError", "ValueError")),
        ("estimator", ("OtherProcessError", "ZeroDivisionError")),
        ("a batch of a stream", ("RuntimeError", "OSError")),  # gloo's, when the second process is gone
    ],
)
def test_a_failure_of_one_rank_can_end_all(stage: str, errors: tuple[str, str], tmp_path: Path) -> None:
    codes, said = in_two_processes(SCRIPT, tmp_path, stage, timeout=100)
    assert codes == [1, 1], said[-3000:]
    assert tuple((tmp_path / f"rank{rank}.txt").read_text() for rank in range(2)) == errors
