"""Writes to parameters are told of, also those that torch does not count, in whichever type and layout."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from lightning_tailindex.noise.touched import told_if_touched

SINGLE = torch.arange(20.0)
KINDS = {
    "float32": SINGLE.clone(),
    "float64": SINGLE.double(),
    "bfloat16": SINGLE.bfloat16(),
    "half": SINGLE[:7].half(),
    "complex": torch.complex(SINGLE, SINGLE),
    "eight bits": SINGLE.to(torch.float8_e4m3fn),
    "transposed": SINGLE.clone().view(4, 5).T,
    "part of another": SINGLE[3:10].clone().as_strided((5,), (1,), 1),
    "one number": SINGLE[1:2].half(),
}


@pytest.mark.parametrize("kind", KINDS)
def test_writes_that_nobody_counts_are_told(kind: str) -> None:
    module = nn.Module()
    module.own = nn.Parameter(KINDS[kind])
    module.other, module.none = nn.Parameter(torch.ones(3)), nn.Parameter(torch.empty(0))
    module.lazy = nn.LazyLinear(2)
    told: list[str] = []
    with told_if_touched(module, told.append):
        pass
    assert told == []
    last: Tensor = module.own.data.view(-1)[-1:] if module.own.is_contiguous() else module.own.data[-1:, -1]
    with told_if_touched(module, told.append):
        last.copy_(torch.full((), 99.0))
    assert len(told) == 1
    assert told[0].startswith("a measurement wrote to 'own' of the module in training")
