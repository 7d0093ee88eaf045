"""A loss has settled once a block's mean is no longer below the one before."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_tailindex.iterates import Settling


def verdicts(losses: Tensor, block: int) -> list[bool]:
    settling, found = Settling(torch.device("cpu")), []
    for chunk in losses.split(block):
        for loss in chunk:
            settling.see(loss)
        found.append(settling.end_block())
    return found


def test_a_loss_that_falls_beyond_its_noise_has_not_settled() -> None:
    noise = torch.randn(600, generator=torch.Generator().manual_seed(0))
    falling = torch.linspace(6, 0, 600)
    assert verdicts(falling + 0.1 * noise, 100) == [False] * 6
    assert verdicts(0.1 * noise, 100)[1]  # the first block has none before it to be compared with


def test_a_loss_that_falls_and_then_stays_settles_in_the_second_block_that_stays() -> None:
    noise = 0.01 * torch.randn(600, generator=torch.Generator().manual_seed(0))
    losses = torch.cat([torch.linspace(3, 0, 300), torch.zeros(300)]) + noise
    assert verdicts(losses, 100)[:5] == [False, False, False, False, True]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_has_not_settled(bad: float) -> None:
    assert verdicts(torch.tensor([1.0, 1.0, bad, 1.0, 1.0, 1.0, 1.0, 1.0]), 2) == [False, False, False, True]


def test_processes_agree_by_the_mean_over_all_of_them() -> None:
    alone, together = Settling(torch.device("cpu")), Settling(torch.device("cpu"))
    for settling in (alone, together):
        for _ in range(50):
            settling.see(torch.tensor(1.0))
    others = [torch.tensor([50 * loss, 50 * loss**2, 50], dtype=torch.float64) for loss in (20.0, 1.0)]
    first = (alone.end_block(), together.end_block(lambda sums: (sums + others[0]) / 2, 2))
    for settling in (alone, together):
        for _ in range(50):
            settling.see(torch.tensor(1.0))
    second = (alone.end_block(), together.end_block(lambda sums: (sums + others[1]) / 2, 2))
    assert first == (False, False)
    assert second == (True, False)  # the other's fell from 20 to 1


def test_a_block_without_losses_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"burn_in=None needs the loss .* give it in steps"):
        Settling(torch.device("cpu")).end_block()
