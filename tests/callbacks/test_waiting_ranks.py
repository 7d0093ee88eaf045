"""Processes that wait for each other within a training step make the same passes, whatever their data."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.forked import in_two_processes


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("ranks")
    codes, said = in_two_processes("tests.callbacks.waiting_ranks", folder, timeout=110)
    assert codes == [0, 0], said[-3000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


KINDS = {"waits": 3, "uneven": 3, "uneven in its own order": 3, "even in its own order": 3, "overfits": 1}


@pytest.mark.parametrize(("kind", "reports"), KINDS.items())
def test_all_ranks_measure_and_train_as_without(
    ranks: list[dict[str, dict[str, Any]]], kind: str, reports: int
) -> None:
    first, second = (results[kind] for results in ranks)
    assert first["draws"] == second["draws"] == [16] * reports
    assert first["alphas"] == second["alphas"]
    for found in (first, second):
        for name, weight in found["without"].items():
            assert torch.equal(found["with"][name], weight)
            assert torch.equal(first["with"][name], second["with"][name])


def test_samples_that_training_never_sees_are_not_measured(ranks: list[dict[str, dict[str, Any]]]) -> None:
    assert [results["overfits"]["unseen"] for results in ranks] == [[], []]
