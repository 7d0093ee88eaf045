from __future__ import annotations

import math

import pytest
import torch

from lightning_tailindex.analysis.bins import Bins

from .functional.samples import generator


def test_groups_are_counted_as_each_by_itself() -> None:
    bins, sizes = Bins(-2.0, 2.0, 8), [3, 0, 4]
    x = 2 * torch.randn(50, 7, generator=generator(0))
    x[::5, 2] = math.nan
    for own, summary in zip(torch.split(x, sizes, dim=1), bins.summarize(x, sizes), strict=True):
        kept = own[~own.isnan()].clamp(-2, 2)
        counts = torch.histc(kept, 8, -2, 2) if len(kept) else torch.zeros(8)
        assert torch.equal(summary[:8], counts)
        assert summary[8].item() == pytest.approx(kept.sum().item(), abs=1e-4)
        assert summary[9].item() == pytest.approx(kept.square().sum().item(), abs=1e-3)
    assert bins.summarize(x, sizes)[:, :8].sum() == 7 * 50 - 10
