from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

EXAMPLE = Path(__file__).parents[2] / "examples" / "fabric.py"


def weights(steps: int, every_n_steps: int) -> tuple[torch.Tensor, Any]:
    net, found = runpy.run_path(str(EXAMPLE))["train"](steps, every_n_steps)
    return torch.cat([parameter.detach().flatten() for parameter in net.parameters()]), found


@pytest.mark.uncounted
def test_measures_beside_training_and_leaves_it_alone() -> None:
    often, found = weights(601, 200)
    assert [step for step, _, _ in found] == [0, 200, 400, 600]
    assert found[0][1] > 1.7
    assert found[-1][1] < 1.5
    assert all(gaussian > 1.95 for _, _, gaussian in found)
    once, _ = weights(601, 1000)
    assert torch.equal(often, once)
    assert not torch.equal(often, weights(600, 1000)[0])  # the comparison can fail
