"""Every coordinate in pairs of draws: the same numbers as from draws that were kept."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_tailindex.analysis.every_coordinate import sums_over_coordinates
from lightning_tailindex.functional.sequential import sequential_fit, sequential_of
from lightning_tailindex.noise.combining import combine
from lightning_tailindex.noise.engine import collect_gradients
from lightning_tailindex.noise.groups import measured_parameters, resolve_grouping
from lightning_tailindex.noise.minibatches import Minibatch
from lightning_tailindex.noise.observation import GroupNoise
from lightning_tailindex.noise.pairs import PairRecorder
from lightning_tailindex.noise.processes import Processes


class Net(nn.Module):
    """Part of it gets a gradient from some minibatches only, and one layer from none."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Linear(5, 40), nn.ReLU(), nn.Linear(40, 3))
        self.unused = nn.Linear(2, 2)


def loss(module: Any, batch: Tensor) -> Tensor:
    return module.body(batch).square().mean()


def observed(
    engine: Any, draws: int = 33, dtype: torch.dtype = torch.float32, group_by: str = "module"
) -> dict[str, GroupNoise]:
    """All coordinates, in pairs and kept."""
    module = Net().to(dtype)
    measured = measured_parameters(module, ())
    batches = torch.randn(draws, 4, 5, generator=torch.Generator().manual_seed(1)).to(dtype)
    recorder = collect_gradients(
        module,
        measured,
        resolve_grouping(group_by),
        [Minibatch((batch,), 4, i < draws - 2, in_full_gradient=True) for i, batch in enumerate(batches)],
        lambda batch: loss(module, batch),
        num_draws=draws,
        max_coordinates=None,
        seed=0,
        engine=engine,
        pairs=PairRecorder(measured, Processes()),
    )
    return {group.name: group for group in combine(recorder, Processes()).groups}


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_pairs_tell_what_the_kept_draws_tell(engine: str, dtype: torch.dtype) -> None:
    groups = observed(engine, dtype=dtype)
    assert set(groups) == {"body.0", "body.2", "unused", "whole_model"}
    for name in ("body.0", "body.2", "whole_model"):
        pairs, kept = groups[name].pairs, sequential_of(groups[name].gradients)
        assert pairs is not None
        assert sum(len(stream.mean) for stream in pairs.streams) == groups[name].num_coordinates
        told = torch.stack([(stream.count > 1).sum() for stream in pairs.streams]).sum()
        found = sequential_fit(pairs.curves, pairs.num_contrasts, told, torch.tensor(torch.nan))
        torch.testing.assert_close(found.alpha, kept.alpha, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(found.low, kept.low, rtol=1e-3, atol=1e-3)
        other = sequential_of(groups[name].gradients.sign() * groups[name].gradients.square())
        assert abs(other.alpha - kept.alpha) > 0.01
    assert groups["body.2"].pairs is not None
    assert len(groups["body.2"].pairs.curves) == 15  # an odd last draw has nothing to be compared with


def test_what_no_gradient_reaches_tells_nothing() -> None:
    pairs = observed("loop")["unused"].pairs
    assert pairs is not None
    assert pairs.num_contrasts.sum() == 0
    assert all(bool((stream.count == 0).all()) for stream in pairs.streams)


def test_other_processes_draws_are_put_together_with_the_own() -> None:
    """Two processes with the same draws: twice the curves, twice the counts, the same moments."""
    two = Processes(2, gather=lambda tensor: torch.stack([tensor, tensor]), noise_unit="loader")
    parameters = {"w": nn.Parameter(torch.zeros(50))}
    alone, both = PairRecorder(parameters, Processes()), PairRecorder(parameters, two)
    for draw in torch.randn(12, 50, generator=torch.Generator().manual_seed(2)):
        alone.record({"w": draw})
        both.record({"w": draw})
    one, other = (recorder.noise({"all": ("w",)})["all"] for recorder in (alone, both))
    assert torch.equal(other.curves, torch.cat([one.curves, one.curves]))
    torch.testing.assert_close(other.streams[0].mean, one.streams[0].mean)
    torch.testing.assert_close(other.streams[0].squares, 2 * one.streams[0].squares)
    assert torch.equal(other.streams[0].count, 2 * one.streams[0].count)


@pytest.mark.parametrize("group_by", ["module", "parameter", "model"])
def test_the_whole_model_adds_up_what_its_groups_add_up(group_by: str) -> None:
    asked: list[Tensor] = []

    def whole(own: Tensor) -> Tensor:
        """That of two processes with shards of the same numbers."""
        asked.append(own)
        return 2 * own

    noises = [group.pairs for group in observed("loop", group_by=group_by).values() if group.pairs is not None]
    sums = list(sums_over_coordinates([replace(pairs, whole=whole) for pairs in noises]))
    (alone,) = sums_over_coordinates([noises[-1]])
    assert len(sums) == len(noises) == {"module": 4, "parameter": 7, "model": 1}[group_by]
    assert len(asked) == max(len(noises) - 1, 1)  # the other processes are asked for no sum that is known
    torch.testing.assert_close(sums[-1], 2 * alone, rtol=1e-12, atol=0.0)
    assert torch.equal(sums[-1], sums[0]) == (group_by == "model")
