"""A loss that is another one each time is computed minibatch by minibatch, whatever ``engine`` asks for."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_tailindex import TailIndexMonitor


class Plain(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))
        self.rng = np.random.default_rng(0)
        self.calls = 0

    def factor(self, batch_idx: int) -> float | Tensor:
        return 1.0

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.layers(batch[0]).square().mean() * self.factor(batch_idx)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class PythonRandom(Plain):
    def factor(self, batch_idx: int) -> float:
        return 5 * random.random()


class NumpyRandom(Plain):
    def factor(self, batch_idx: int) -> float:
        return float(np.random.beta(0.4, 0.4))  # noqa: NPY002 -- the global state, as users draw from it


class OwnGenerator(Plain):
    def factor(self, batch_idx: int) -> float:
        return float(self.rng.exponential())


class Numbered(Plain):
    def factor(self, batch_idx: int) -> float:
        return 1.0 + batch_idx % 2


class Counting(Plain):
    def factor(self, batch_idx: int) -> float:
        self.calls += 1
        return 1.0 + self.calls


class Transferred(Plain):
    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] * random.choice([1.0, 5.0])]


class TorchRandom(Plain):
    """Draws from torch anew for each minibatch, also of many at once."""

    def factor(self, batch_idx: int) -> Tensor:
        return torch.rand(()) * 2


def fallback(path: Path, module: type[Plain], engine: Any, caplog: Any) -> tuple[Any, bool]:
    seed_everything(0)
    x = torch.randn(640, 6, generator=torch.Generator().manual_seed(0))
    monitor = TailIndexMonitor(100, engine=engine, on_error="raise", num_minibatches=16)
    own = {"default_root_dir": path, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "max_steps": 1}
    caplog.clear()
    Trainer(**own, **quiet, callbacks=[monitor]).fit(module(), DataLoader(TensorDataset(x), batch_size=8, shuffle=True))
    return monitor.reports[0].whole_model, "one by one from here on" in caplog.text


@pytest.mark.parametrize("module", [PythonRandom, NumpyRandom, OwnGenerator, Numbered, Counting, Transferred])
def test_it_is_computed_one_by_one(module: type[Plain], tmp_path: Path, caplog: Any) -> None:
    found, is_fallback = fallback(tmp_path, module, "vectorized", caplog)
    expected, _ = fallback(tmp_path, module, "loop", caplog)
    assert is_fallback
    assert (found.alpha, found.noise_norm) == (expected.alpha, expected.noise_norm)


@pytest.mark.parametrize("module", [Plain, TorchRandom])
def test_a_loss_that_comes_again_is_vectorized(module: type[Plain], tmp_path: Path, caplog: Any) -> None:
    found, is_fallback = fallback(tmp_path, module, "vectorized", caplog)
    expected, _ = fallback(tmp_path, module, "loop", caplog)
    assert not is_fallback
    assert found.noise_norm == pytest.approx(expected.noise_norm, rel=1e-5 if module is Plain else 0.5)
