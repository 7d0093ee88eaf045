"""A window of iterates in bounded memory: the exact mean, and evenly spaced snapshots."""

from __future__ import annotations

import pytest
import torch

from lightning_tailindex.iterates import IterateRecorder


def recorded(window: int, rows: torch.Tensor) -> IterateRecorder:
    recorder = IterateRecorder(window, torch.zeros_like(rows[0]))
    for row in rows:
        recorder.record(row)
    return recorder


@pytest.mark.parametrize("window", [1, 16, 255, 256, 257, 1000])
def test_mean_and_snapshots_are_those_of_all_iterates(window: int) -> None:
    rows = torch.randn(window, 3, generator=torch.Generator().manual_seed(0))
    recorder = recorded(window, rows)
    assert recorder.is_full
    torch.testing.assert_close(recorder.mean, rows.double().mean(0), rtol=0, atol=1e-12)
    assert torch.equal(recorder.snapshots, rows[recorder.stride - 1 :: recorder.stride])
    assert min(window, 128) <= len(recorder.snapshots) <= 256


def test_the_mean_of_large_weights_that_hardly_move_is_exact() -> None:
    rows = 1000 + 1e-3 * torch.rand(5000, 1, generator=torch.Generator().manual_seed(0))
    truth, naive = rows.double().mean(0), torch.zeros(1)
    for row in rows:
        naive += row
    assert (recorded(5000, rows).mean - truth).abs() < 1e-10
    assert (naive / 5000 - truth).abs() > 1e-6  # what a plain sum of weights would lose


def memory(recorder: IterateRecorder) -> int:
    """The bytes of the tensors that a recorder holds."""
    return sum(held.nbytes for held in vars(recorder).values() if isinstance(held, torch.Tensor))


def test_memory_does_not_grow_with_the_window() -> None:
    sizes = [memory(IterateRecorder(window, torch.zeros(100))) for window in (256, 2560, 10**6)]
    assert max(sizes) <= sizes[0] == 256 * 100 * 4 + 2 * 100 * 8
    recorder = IterateRecorder(10**4, torch.zeros(100))
    before = memory(recorder)
    for _ in range(1000):
        recorder.record(torch.ones(100))
    assert memory(recorder) == before


def test_what_comes_after_the_window_does_not_count() -> None:
    recorder = recorded(4, torch.ones(4, 2))
    recorder.record(torch.full((2,), 100.0))
    assert recorder.mean.tolist() == [1.0, 1.0]
    assert recorder.snapshots.max() == 1
