"""Writes to parameters are told of, also those that torch does not count, in whichever type and layout."""

from __future__ import annotations

from collections.abc import Iterator

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
    "conjugated": torch.complex(SINGLE, SINGLE).conj(),
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


class OnlyHead(nn.Module):
    """Lists but a few of its parameters, and has some of kinds of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.expanded = nn.Parameter(torch.ones(1).expand(20), requires_grad=False)
        self.freed = nn.Parameter(torch.ones(4))
        self.freed.data.untyped_storage().resize_(0)
        self.nowhere = nn.Parameter(torch.ones(4, device="meta"))
        self.sparse = nn.Parameter(torch.eye(3).to_sparse())

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        return self.head.parameters(recurse)


def test_parameters_of_kinds_of_their_own_are_no_error() -> None:
    module, told = OnlyHead(), list[str]()
    with told_if_touched(module, told.append):
        pass
    assert told == []
    with told_if_touched(module, told.append):
        module.head.weight.data.zero_()
    assert "'head.weight'" in told[0]
