"""Sums over draws in C are those of torch, and more precise."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from lightning_tailindex.kernels import compiled
from lightning_tailindex.noise.coordinates import sample_parameters
from lightning_tailindex.noise.minibatches import Minibatch
from lightning_tailindex.noise.recorder import Recorder

pytestmark = pytest.mark.skipif(not compiled.is_compiled(), reason="the C code was not compiled")

SIZES = (1, 63, 64, 1023, 1024, 1025, 70_001, 0)


def gradients(draws: int, seed: int) -> list[Tensor]:
    rng = torch.Generator().manual_seed(seed)
    return [torch.randn(draws, size, generator=rng, device="cpu") for size in SIZES]


def sums() -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    first = [own * 3 for own in gradients(1, 0)]
    return first, [torch.zeros_like(own) for own in first], [torch.zeros(()) for _ in first]


@pytest.mark.parametrize("draws", [1, 2, 5])
def test_they_are_those_of_an_obvious_loop(draws: int) -> None:
    first, total, squares = sums()
    adding = compiled.DrawSums(first, total, squares)
    seen = [gradients(draws, seed) for seed in range(1, 4)]
    for own in seen:
        adding.add(own)
    for p, start in enumerate(first):
        differences = torch.cat([own[p] for own in seen]).double() - start.double()
        torch.testing.assert_close(total[p][0].double(), differences.sum(0), rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(squares[p].double(), differences.square().sum(), rtol=1e-6, atol=1e-30)


def test_threads_change_nothing() -> None:
    threads, found = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            first, total, squares = sums()
            compiled.DrawSums(first, total, squares).add(gradients(40, 1))
            found.append([*total, *squares])
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(own, other) for each in found[1:] for own, other in zip(each, found[0], strict=True))


def test_a_copy_has_sums_of_its_own() -> None:
    own = sums()
    kept = copy.deepcopy((own, compiled.DrawSums(*own)))
    kept[1].add(gradients(1, 1))
    assert not any(bool(total.any()) for total in own[1])
    assert bool(kept[0][1][0].any())


def test_a_default_device_elsewhere_changes_nothing() -> None:
    first, total, squares = sums()
    with torch.device("meta"):
        compiled.DrawSums(first, total, squares).add(gradients(2, 1))
    assert bool(total[0].any())


@pytest.mark.parametrize("weights", [(1, 1, 1), (2, 1, 3)])
def test_a_recorder_keeps_the_same(weights: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = {name: nn.Parameter(torch.zeros(size)) for name, size in (("a", 1500), ("b", 7))}
    groups = {"all": tuple(parameters)}
    rng = torch.Generator().manual_seed(0)
    draws = [{name: torch.randn(len(p), generator=rng) for name, p in parameters.items()} for _ in weights]

    def recorded() -> Recorder:
        sample = sample_parameters(parameters, groups, 10, 0)
        recorder = Recorder(parameters, groups, sample, 3, 1.0, None)
        for weight, draw in zip(weights, draws, strict=True):
            minibatch = Minibatch(((),), weight, True, True)
            recorder.record(minibatch, {name: own.clone() for name, own in draw.items()})
        return recorder

    fast = recorded()
    monkeypatch.setattr(compiled, "suit", lambda *tensors: False)
    slow = recorded()
    assert torch.equal(fast.rows, slow.rows)
    full = {name: slow.full_gradient(name) for name in parameters}
    for name, own in full.items():
        torch.testing.assert_close(fast.full_gradient(name), own)
    torch.testing.assert_close(fast.noise_squares(full), slow.noise_squares(full))
