from __future__ import annotations

import math

import pytest
import torch

from lightning_tailindex.functional._scan import _by_doubling, _is_refused, cumulative_sum

from .samples import generator, stable


@pytest.mark.parametrize("shape", [(1,), (2, 3), (3, 2), (64, 5), (100,), (257, 2, 2)])
def test_sums_by_doubling_are_cumulative(shape: tuple[int, ...]) -> None:
    x = stable(1.7, shape, generator(1))
    torch.testing.assert_close(_by_doubling(x), x.cumsum(0))
    assert torch.equal(cumulative_sum(x), x.cumsum(0))


def test_what_is_not_finite_stays_so_from_there_on() -> None:
    x = torch.tensor([1.0, math.inf, 1.0, -math.inf, 2.0])
    torch.testing.assert_close(_by_doubling(x), x.cumsum(0), equal_nan=True)


def test_only_a_deterministic_gpu_refuses() -> None:
    assert not _is_refused("cuda")
    torch.use_deterministic_algorithms(True)
    try:
        assert _is_refused("cuda")
        assert not _is_refused("cpu")
    finally:
        torch.use_deterministic_algorithms(False)
