"""Iterates in two real processes over gloo: of replicas that are the same, and of those that differ."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from tests.forked import in_two_processes

from .training_trace import Trace


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("ranks")
    codes, said = in_two_processes("tests.callbacks.iterates_ranks", folder, timeout=240)
    assert codes == [0, 0], said[-3000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


def of(report: dict[str, Any], what: str, group: int = -1) -> dict[str, Any]:
    (found,) = [each for each in report["measurements"][group]["estimates"] if each["what"] == what]
    return dict(found)


@pytest.mark.parametrize(
    ("watched", "without"), [("same", "without"), ("settling", "without"), ("each", "local without")]
)
def test_training_is_the_same_bit_for_bit_on_every_rank(ranks: list[Any], watched: str, without: str) -> None:
    for results in ranks:
        assert torch.equal(results[watched]["ends"], results[without]["ends"])
        assert not torch.equal(results["without"]["ends"], results["local without"]["ends"])  # the comparison can fail


@pytest.mark.parametrize("case", ["same", "settling", "each", "average"])
def test_every_rank_holds_the_same_reports(ranks: list[Any], case: str) -> None:
    reports = [results[case]["reports"] for results in ranks]
    assert [report["step"] for report in reports[0]] == ([16, 32, 48] if case != "settling" else [48])
    first, second = (Trace(dict(enumerate(part))) for part in reports)  # type: ignore[arg-type]
    assert first.differences(second) == []
    assert all(report["minibatch_size"] == 8 for report in reports[0])


def test_a_window_that_fails_on_one_rank_is_dropped_on_all(ranks: list[Any]) -> None:
    for results in ranks:
        assert [report["step"] for report in results["failing"]["reports"]] == [16, 48]
        late = results["failing late"]
        assert [(report["step"], report["num_repetitions"]) for report in late["reports"]] == [(16, 1), (48, 2)]
        assert "step 32 failed and was dropped" in late["warnings"][0]


def test_of_replicas_that_differ_each_and_their_average_are_measured(ranks: list[Any]) -> None:
    report = ranks[0]["each"]["reports"][0]
    ends = [results["each"]["ends"][:16].double() for results in ranks]
    assert not torch.equal(ends[0], ends[1])
    average = (ends[0] + ends[1]) / 2
    norm = (average - average.mean(0)).square().sum(1).mean().sqrt().item()
    assert report["measurements"][-1]["deviation_norm"] == pytest.approx(norm, rel=1e-5)
    assert of(report, "worker_0")["low"] != of(report, "worker_1")["low"]
    assert [each["num_repetitions"] for each in ranks[0]["each"]["reports"]] == [2, 4, 6]
    alone = ranks[0]["average"]["reports"][0]
    assert of(alone, "deviation") == of(report, "deviation")
    assert not any(each["what"].startswith("worker") for each in alone["measurements"][-1]["estimates"])


def test_the_example_shows_each_process_and_their_average(ranks: list[Any]) -> None:
    shown = ranks[0]["example"]
    assert "steps 32 to 96, η 0.1, 16 samples a step, 2 ergodic averages so far" in shown
    rows = re.findall(r"^(average|worker \d), (deviations|means) +([\d.]+) +([\d.]+) +([\d.]+)$", shown, re.MULTILINE)
    assert [row[:2] for row in rows] == [
        (who, what) for what in ("deviations", "means") for who in ("average", "worker 0", "worker 1")
    ]
    assert all(0.2 <= float(number) <= 2 for row in rows for number in row[2:])
    assert ranks[1]["example"] == ""


def test_replicas_that_ought_to_be_the_same_and_differ_are_told_of(ranks: list[Any]) -> None:
    for results in ranks:
        assert results["not the same"]["reports"] == []
        (warning,) = results["not the same"]["warnings"]
        assert 'replicas="same" needs the same weights in every process' in warning
        assert 'give "average" or "each"' in warning
