"""Training with SharpnessMonitor leaves bit for bit what training without it leaves, also where it fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from lightning_tailindex import SharpnessMonitor

from .fragile import FAILS_AT, Armed, FragileNet, raises
from .test_undisturbed import SCENARIOS, run
from .training_trace import NaiveMeasurement, NoisyData, train

pytestmark = pytest.mark.uncounted

NAMES = ["plain", "accumulation of 4", "bf16-mixed", "a stream without a length"]
MORE = ["2 workers", "stateful sampler", "dictionary of loaders", "SGD with momentum", "overfit_batches"]


def monitor(**options: Any) -> SharpnessMonitor:
    settings = {"num_minibatches": 2, "trace_samples": 2, "parameters": "0.weight", "on_error": "raise"}
    return SharpnessMonitor(4, **{**settings, **options})


@pytest.mark.parametrize("name", [*NAMES, *(pytest.param(name, marks=pytest.mark.long) for name in MORE)])
def test_training_is_the_same_bit_for_bit(name: str, tmp_path: Path) -> None:
    without, _ = run(tmp_path / "without", SCENARIOS[name], None)
    watcher = monitor()
    watched, _ = run(tmp_path / "with", SCENARIOS[name], watcher)
    assert watcher.reports, "nothing was measured, so nothing was shown"
    assert without.differences(watched) == []


def test_the_comparison_can_fail(tmp_path: Path) -> None:
    without, _ = run(tmp_path / "without", SCENARIOS["plain"], None)
    naive, _ = run(tmp_path / "naive", SCENARIOS["plain"], NaiveMeasurement())
    assert "parameters" in without.differences(naive)


class Fragile(FragileNet):
    """Fails in any minibatch while it is armed."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return super().training_step(batch, 3)


def target(trainer: Trainer) -> Any:
    return trainer.lightning_module


def test_a_measurement_that_fails_leaves_training_as_it_was(tmp_path: Path) -> None:
    def trained(path: Path, *callbacks: Any) -> Any:
        return train(
            str(path),
            lambda: DataLoader(NoisyData(), 6, shuffle=True),
            callbacks,
            module=lambda: Fragile(raises(ValueError)),
        )[0]

    watcher = monitor(on_error="warn")
    without = trained(tmp_path / "without")
    with pytest.warns(
        UserWarning, match="SharpnessMonitor: the measurement at step 4 failed and was dropped"
    ) as caught:
        watched = trained(tmp_path / "with", Armed(target, True), watcher, Armed(target, False))
    assert len([one for one in caught if "SharpnessMonitor" in str(one.message)]) == 1  # of two that failed
    assert without.differences(watched) == []
    assert [report.step for report in watcher.reports] == [step for step in range(0, 21, 4) if step not in FAILS_AT]
    with pytest.raises(ValueError, match="broken on purpose"):
        trained(tmp_path / "raise", Armed(target, True), monitor(), Armed(target, False))
