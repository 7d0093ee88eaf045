"""What holds of every monitor."""

from __future__ import annotations

import inspect
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

import lightning_tailindex
from tests.loggers.training import fit

MONITORS = {
    "TailIndexMonitor": {"num_minibatches": 16, "full_gradient_batches": None},
    "IterateTailIndexMonitor": {"window": 16, "burn_in": 100},
    "WeightSpectrumMonitor": {},
    "SharpnessMonitor": {"num_minibatches": 2},
    "FirstExitMonitor": {},
}
METRICS = {
    "TailIndexMonitor": "tail_index",
    "IterateTailIndexMonitor": "iterate_tail_index",
    "WeightSpectrumMonitor": "weight_density_exponent",
    "SharpnessMonitor": "sharpness",
    "FirstExitMonitor": "first_exit_distance",
}


def made(name: str) -> Callback:
    monitor: Callback = getattr(lightning_tailindex, name)(**MONITORS[name])
    return monitor


def trained(*callbacks: Callback, **options: Any) -> Trainer:
    return fit(False, *callbacks, limit_train_batches=4, **options)


def test_these_are_all_of_them() -> None:
    exported = {name for name in lightning_tailindex.__all__ if name.endswith("Monitor")}
    assert exported == set(MONITORS) == set(METRICS)


@pytest.mark.parametrize("name", MONITORS)
def test_it_can_be_pickled_after_training(name: str, tmp_path: Path) -> None:
    monitor = made(name)
    trained(monitor, default_root_dir=tmp_path)
    again = pickle.loads(pickle.dumps(monitor))
    assert repr(again.reports) == repr(monitor.reports)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", MONITORS)
def test_numbers_of_numpy_are_pythons_own(name: str, tmp_path: Path) -> None:
    kind = getattr(lightning_tailindex, name)
    arguments = {key: each.default for key, each in inspect.signature(kind).parameters.items()} | MONITORS[name]
    numbers = {key: each for key, each in arguments.items() if type(each) in (int, float)}
    assert "every_n_steps" in numbers or name in ("TailIndexMonitor", "IterateTailIndexMonitor")
    monitor = kind(**arguments | {key: np.asarray(each)[()] for key, each in numbers.items()})
    trainer = trained(monitor, default_root_dir=tmp_path)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    torch.load(tmp_path / "end.ckpt", weights_only=True)  # which refuses NumPy's
    given = {key: getattr(monitor, key) for key in numbers if hasattr(monitor, key)}
    settings = {key: getattr(monitor.settings, key) for key in numbers if hasattr(getattr(monitor, "settings", 0), key)}
    assert given or settings
    for key, value in (given | settings).items():
        assert (type(value), value) == (type(numbers[key]), numbers[key]), key


def test_what_can_be_monitored_is_there_before_it_is_measured(tmp_path: Path) -> None:
    metric = METRICS["IterateTailIndexMonitor"]

    def watching() -> list[Callback]:
        return [
            ModelCheckpoint(monitor=metric, every_n_train_steps=2),
            EarlyStopping(metric, check_finite=False, check_on_train_epoch_end=True),
        ]

    options = {"default_root_dir": tmp_path, "enable_checkpointing": True, "log_every_n_steps": 1}
    trainer = trained(made("IterateTailIndexMonitor"), *watching(), **options)
    assert trainer.global_step == 4
    assert math.isnan(trainer.callback_metrics[metric])
    missing = (MisconfigurationException, RuntimeError, UserWarning)  # of older versions of Lightning, the last
    with pytest.raises(missing, match=metric):  # without the monitor
        trained(*watching(), **{**options, "default_root_dir": tmp_path / "without"})
