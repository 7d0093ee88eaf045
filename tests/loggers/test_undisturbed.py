"""Figures, histograms and texts in every logger leave training bit for bit what it is without."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from torch.utils.data import DataLoader

from lightning_tailindex import TailIndexMonitor
from lightning_tailindex.loggers import FIGURES
from tests.callbacks.training_trace import NaiveMeasurement, NoisyData, Trace, train

from .training import events_in

pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"), pytest.mark.uncounted]


def tensorboard(path: str) -> list[Logger]:
    return [TensorBoardLogger(path, "events", "")]


def mlflow(path: str) -> list[Logger]:
    return [MLFlowLogger("all", tracking_uri=f"file:{path}/store")]


def make_experiment(path: Path) -> None:
    """Makes MLflow's experiment before seeds are set: for one id in ten it draws from Python's random numbers."""
    from mlflow.tracking import MlflowClient

    MlflowClient(f"file:{path}/store").create_experiment("all")


def wandb(path: str) -> list[Logger]:
    Path(path).mkdir(parents=True)
    return [WandbLogger(save_dir=path, offline=True, project="all")]


def several(path: str) -> list[Logger]:
    return [*tensorboard(path), CSVLogger(path, "second", "")]


def run(path: Path, loggers: Callable[[str], list[Logger]], *callbacks: Callback) -> Trace:
    def loader() -> DataLoader[Any]:
        return DataLoader(NoisyData(), batch_size=6, shuffle=True)

    if loggers is mlflow:
        make_experiment(path)
    return train(str(path), loader, callbacks, more_loggers=loggers)[0]


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_ALLOW_FILE_STORE", "WANDB_SILENT"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("WANDB_MODE", "offline")


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("loggers", [several, mlflow, wandb])
def test_training_is_the_same_bit_for_bit(loggers: Callable[[str], list[Logger]], tmp_path: Path) -> None:
    if loggers in (mlflow, wandb) and find_spec(loggers.__name__) is None:
        pytest.skip(f"{loggers.__name__} is not installed")
    figures, draws = tuple(FIGURES), {"num_minibatches": 16, "full_gradient_batches": None}
    watcher = TailIndexMonitor(every_n_steps=6, figures=figures, figures_every=2, on_error="raise", **draws)
    traces = []
    for name, callbacks in (("without", []), ("with", [watcher]), ("naive", [NaiveMeasurement()])):
        traces.append(run(tmp_path / name, loggers, *callbacks))
        if loggers is wandb:
            pytest.importorskip("wandb").finish()
    without, with_, naive = traces
    assert watcher.reports
    if loggers is several:
        drawn = events_in(tmp_path / "with" / "events").Tags()["images"]
        assert len(drawn) == len(FIGURES) - 1  # 16 draws are too few to be averaged
    assert without.differences(with_) == []
    assert "parameters" in without.differences(naive)
