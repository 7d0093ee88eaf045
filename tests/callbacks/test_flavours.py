"""Both names under which Lightning is published take the monitor, together or alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]

HIDING = """
import importlib.abc, sys

class Hidden(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {hidden!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Hidden())
"""

FIT = """
import random
import sys
import numpy as np
import torch
import {lightning} as pl
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import MeanMetric

class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Linear(4, 6), torch.nn.BatchNorm1d(6), torch.nn.Dropout(0.3), torch.nn.Linear(6, 2)
        )
        self.mean, self.seen = MeanMetric(), 0

    def training_step(self, batch, batch_idx):
        self.seen += 1
        loss = torch.nn.functional.cross_entropy(self.body(batch[0]), batch[1])
        self.mean(loss.detach())
        self.log("mean", self.mean, on_step=True, on_epoch=True)
        self.logger.log_metrics({{"by_hand": loss.item()}})
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=0.05)

def loader():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(80, 4, generator=generator), torch.randint(2, (80,), generator=generator)
    return DataLoader(TensorDataset(x, y), 4, shuffle=True)

class Naive(pl.Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        module.training_step(next(iter(trainer.train_dataloader)), 0)

class Logger(pl.loggers.CSVLogger):
    rows = None

    def log_metrics(self, metrics, step=None):
        kept = {{k: float(v) for k, v in metrics.items() if not k.startswith(("tail_index", "gradient_noise"))}}
        self.rows = [*(self.rows or []), *([kept] if kept else [])]

def fit(folder, *callbacks):
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    net, logger = Net(), Logger(folder)
    trainer = pl.Trainer(
        max_epochs=2, accelerator="cpu", logger=logger, log_every_n_steps=1, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=list(callbacks),
    )
    trainer.fit(net, loader())
    return {{
        "state": net.state_dict(), "optimizer": trainer.optimizers[0].state_dict()["state"], "seen": net.seen,
        "logged": logger.rows, "torch": torch.get_rng_state(), "numpy": np.random.get_state()[1].tolist(),
        "metrics": {{k: float(v) for k, v in trainer.callback_metrics.items() if not k.startswith("tail_index")}},
    }}

from lightning_tailindex import TailIndexMonitor

monitor = TailIndexMonitor(every_n_steps=10, num_minibatches=16, group_by="model", on_error="raise")
results = {{
    "without": fit(sys.argv[1]), "with": fit(sys.argv[1], monitor), "naive": fit(sys.argv[1], Naive()),
    "steps": [report.step for report in monitor.reports],
    "modules": sorted({{name.partition(".")[0] for name in sys.modules}}),
}}
torch.save(results, sys.argv[1] + "/results.pt")
"""

PACKAGES = {"lightning.pytorch": {"lightning"}, "pytorch_lightning": {"pytorch_lightning", "lightning_fabric"}}


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    return one == other


@pytest.mark.parametrize("is_alone", [True, pytest.param(False, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", PACKAGES)
def test_either_trains_as_if_nobody_measured(name: str, is_alone: bool, tmp_path: Path) -> None:
    pytest.importorskip(name)
    others = set().union(*PACKAGES.values()) - PACKAGES[name]
    hiding = HIDING.format(hidden=sorted(others)) if is_alone else "import lightning_tailindex"
    run(f"{hiding}\n{FIT.format(lightning=name)}", str(tmp_path))
    results = torch.load(tmp_path / "results.pt", weights_only=False)
    assert results["steps"] == [0, 10, 20, 30]
    assert same(results["without"], results["with"])
    assert not same(results["without"], results["naive"])
    if is_alone:
        assert not others & set(results["modules"])


def test_what_is_missing_is_named() -> None:
    hiding = HIDING.format(hidden=["lightning", "pytorch_lightning"])
    code = f"{hiding}\ntry:\n    import lightning_tailindex\nexcept ModuleNotFoundError as error:\n    print(error)"
    assert "needs lightning or pytorch_lightning, and finds neither" in run(code)


def test_a_broken_installation_is_not_taken_for_none() -> None:
    hiding = HIDING.format(hidden=["torchmetrics"])
    code = f"{hiding}\ntry:\n    import lightning_tailindex\nexcept ModuleNotFoundError as error:\n    print(error)"
    assert "No module named 'torchmetrics" in run(code)


@pytest.mark.parametrize("name", PACKAGES)
def test_the_messages_stay_in_the_log_of_the_one_that_the_user_imported(name: str) -> None:
    pytest.importorskip(name)
    asked = f"import {name}\nfrom lightning_utilities.core import rank_zero\nprint(rank_zero.log.name)\n"
    *_, alone, first = run(f"{asked}import lightning_tailindex\nprint(rank_zero.log.name)").split()
    assert first == alone
    assert first.startswith(name)


def test_the_control_the_last_one_imported_takes_the_messages() -> None:
    pytest.importorskip("lightning.pytorch")
    pytest.importorskip("pytorch_lightning")
    both = run(
        "import lightning.pytorch, pytorch_lightning\nimport lightning_utilities.core.rank_zero as z\nprint(z.log)"
    )
    assert "pytorch_lightning" in both  # the last one imported takes it, where nobody gives it back


CLI = """
import sys
import torch
from {lightning}.cli import LightningCLI
from {lightning}.demos.boring_classes import BoringModel
from lightning_tailindex import TailIndexMonitor

sys.argv = ["train.py", "fit", "--config", sys.argv[1]]
cli = LightningCLI(BoringModel, seed_everything_default=1, save_config_callback=None)
(monitor,) = [each for each in cli.trainer.callbacks if isinstance(each, TailIndexMonitor)]
print("measured at", [report.step for report in monitor.reports], monitor.settings.noise_unit)
"""


@pytest.mark.parametrize("is_alone", [True, pytest.param(False, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", PACKAGES)
def test_the_command_line_of_either_takes_it(name: str, is_alone: bool, tmp_path: Path) -> None:
    pytest.importorskip(name)
    config = tmp_path / "config.yaml"
    config.write_text(
        "trainer:\n  accelerator: cpu\n  logger: false\n  max_epochs: 1\n  enable_checkpointing: false\n"
        "  limit_val_batches: 0\n  callbacks:\n    - class_path: lightning_tailindex.TailIndexMonitor\n"
        "      init_args: {every_n_steps: 20, num_minibatches: 16, noise_unit: loader, dataloader: null}\n"
    )
    others = set().union(*PACKAGES.values()) - PACKAGES[name]
    hiding = HIDING.format(hidden=sorted(others)) if is_alone else ""
    assert "measured at [0, 20, 40, 60] loader" in run(f"{hiding}\n{CLI.format(lightning=name)}", str(config))
