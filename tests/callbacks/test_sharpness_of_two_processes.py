"""Two real processes over gloo measure one Hessian together, and train as if they had not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lightning_tailindex.noise.processes import Processes
from lightning_tailindex.trainer import note_on_replicas
from tests.forked import in_two_processes

from .sharpness_ranks import own, train
from .training_trace import Trace

OURS = {"reports": None, "sharpness": None}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    codes, said = in_two_processes("tests.callbacks.sharpness_ranks", folder, timeout=160)
    assert codes == [0, 0], said[-3000:]
    assert said.count("ValueError: broken on purpose") == 2  # each told once, where it happened
    assert said.count("MemoryError: broken on purpose") == 1
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("name", ["watched", "failing"])
def test_training_is_the_same_bit_for_bit_on_every_rank(ranks: list[Any], name: str) -> None:
    for results in ranks:
        without, watched = (Trace({**results[run], **OURS}) for run in ("without", name))
        assert without.differences(watched) == []


def test_the_comparison_can_fail(ranks: list[Any]) -> None:
    for results in ranks:
        without, naive = (Trace({**results[run], **OURS}) for run in ("without", "naive"))
        assert without.differences(naive) != []


def test_every_rank_holds_the_same_reports(ranks: list[Any]) -> None:
    first, second = (results["watched"] for results in ranks)
    assert [report["step"] for report in first["reports"]] == [0, 2, 4]
    assert first["reports"] == second["reports"]
    assert first["sharpness"] == second["sharpness"]


def test_they_are_those_of_one_process_with_all_minibatches(ranks: list[Any]) -> None:
    alone = train(own(8), devices=1)
    for report, other in zip(ranks[0]["watched"]["reports"], alone["reports"], strict=True):
        for name in ("eigenvalues", "trace", "trace_error", "loss"):
            assert report[name] == pytest.approx(other[name], rel=1e-4), name
        assert (report["num_minibatches"], report["minibatch_size"]) == (4, 8)
        assert (other["num_minibatches"], other["minibatch_size"]) == (8, 4)
    half = train(own(4), devices=1)  # the control: the first process's share is another number
    assert half["reports"][0]["loss"] != pytest.approx(alone["reports"][0]["loss"], rel=1e-4)


def test_a_measurement_that_fails_on_one_rank_is_dropped_on_all(ranks: list[Any]) -> None:
    for results in ranks:
        assert [report["step"] for report in results["failing"]["reports"]] == [0, 4]
    assert ranks[0]["failed bars"] > 0  # a bar that cannot be drawn was no failure


def test_parameters_without_a_norm_are_compared_too() -> None:
    together = Processes(count=2, gather=lambda own: torch.stack([own, own]))
    weights = [torch.ones(3), torch.ones(2, dtype=torch.int8), torch.ones(2, dtype=torch.complex64)]
    assert note_on_replicas(together, lambda: weights) == ""
    apart = Processes(count=2, gather=lambda own: torch.stack([own, own + 1]))
    assert "differ" in note_on_replicas(apart, lambda: weights)
