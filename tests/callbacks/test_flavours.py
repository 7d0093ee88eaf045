"""Both names under which Lightning is published take the monitor, together or alone."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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

from {lightning}.cli import LightningCLI
from {lightning}.demos.boring_classes import BoringModel

sys.argv = ["train.py", "fit", "--config", sys.argv[1] + "/config.yaml"]
cli = LightningCLI(BoringModel, seed_everything_default=1, save_config_callback=None)
(monitor,) = [each for each in cli.trainer.callbacks if isinstance(each, TailIndexMonitor)]
print("measured at", [report.step for report in monitor.reports], monitor.settings.noise_unit)
"""

CONFIG = """
trainer:
  accelerator: cpu
  logger: false
  max_epochs: 1
  enable_checkpointing: false
  limit_val_batches: 0
  callbacks:
    - class_path: lightning_tailindex.TailIndexMonitor
      init_args: {every_n_steps: 20, num_minibatches: 16, noise_unit: loader, dataloader: null}
"""

# Does one thing after the other in processes of their own, which begin with torch alone and share its import.
APART = """
import os, sys, torch
for code in sys.argv[1:]:
    child = os.fork()
    if not child:
        exec(code, {})
        sys.stdout.flush()
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit("failed:\\n" + code)
    print("end of one", flush=True)
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


@pytest.fixture(scope="module", params=PACKAGES)
def name(request: pytest.FixtureRequest) -> str:
    """Either Lightning, where it is installed."""
    pytest.importorskip(request.param)
    return str(request.param)


@pytest.fixture(scope="module", params=[True, pytest.param(False, marks=pytest.mark.long)], ids=["alone", "both"])
def is_alone(request: pytest.FixtureRequest) -> bool:
    """Whether the other one cannot be found."""
    return bool(request.param)


def others(name: str) -> set[str]:
    return set().union(*PACKAGES.values()) - PACKAGES[name]


@pytest.fixture(scope="module")
def trained(name: str, is_alone: bool, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """What trainings in a process of their own left behind, and what it printed."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "config.yaml").write_text(CONFIG)
    hiding = HIDING.format(hidden=sorted(others(name))) if is_alone else "import lightning_tailindex"
    said = run(f"{hiding}\n{FIT.format(lightning=name)}", str(folder))
    return torch.load(folder / "results.pt", weights_only=False), said


def test_either_trains_as_if_nobody_measured(trained: Any, name: str, is_alone: bool) -> None:
    results, _ = trained
    assert results["steps"] == [0, 10, 20, 30]
    assert same(results["without"], results["with"])
    assert not same(results["without"], results["naive"])
    if is_alone:
        assert not others(name) & set(results["modules"])


def test_the_command_line_of_either_takes_it(trained: Any) -> None:
    _, said = trained
    assert "measured at [0, 20, 40, 60] loader" in said


IMPORT = """
try:
    import lightning_tailindex
except ModuleNotFoundError as error:
    print(error)
"""
ASK = "from lightning_utilities.core import rank_zero\nprint(rank_zero.log.name)\n"


@pytest.fixture(scope="module")
def said() -> dict[str, str]:
    """What was printed by each of several processes, which import Lightning anew."""
    installed = [name for name in PACKAGES if find_spec(name.partition(".")[0])]
    codes = {
        "missing": HIDING.format(hidden=["lightning", "pytorch_lightning"]) + IMPORT,
        "broken": HIDING.format(hidden=["torchmetrics"]) + IMPORT,
        **{name: f"import {name}\n{ASK}import lightning_tailindex\nprint(rank_zero.log.name)" for name in installed},
    }
    if len(installed) == 2:
        codes["control"] = f"import {', '.join(PACKAGES)}\n{ASK}"
    return dict(zip(codes, run(APART, *codes.values()).split("end of one\n"), strict=False))


def test_what_is_missing_is_named(said: dict[str, str]) -> None:
    assert "needs lightning or pytorch_lightning, and finds neither" in said["missing"]


def test_a_broken_installation_is_not_taken_for_none(said: dict[str, str]) -> None:
    assert "No module named 'torchmetrics" in said["broken"]


def test_the_messages_stay_in_the_log_of_the_one_that_the_user_imported(name: str, said: dict[str, str]) -> None:
    alone, first = said[name].split()
    assert first == alone
    assert first.startswith(name)


def test_the_control_the_last_one_imported_takes_the_messages(said: dict[str, str]) -> None:
    if "control" not in said:
        pytest.skip("only one Lightning is installed")
    assert said["control"].startswith("pytorch_lightning")  # where nobody gives it back
