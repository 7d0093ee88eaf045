"""Data that are read once are measured on complete minibatches, as many as a step consumes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from lightning_tailindex import TailIndexMonitor


class Stream(IterableDataset[Tensor]):
    def __init__(self, samples: int) -> None:
        self.samples = samples

    def __iter__(self) -> Iterator[Tensor]:
        rng = torch.Generator().manual_seed(0)
        return iter(torch.randn(self.samples, 50, generator=rng))


class Mean(LightningModule):
    """The noise of the mean of a minibatch: Gaussian, of norm sqrt(50 / samples)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(50))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.weight - batch).square().sum(1).mean() / 2

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-4)


def measured(path: Path, samples: int, batch_size: int, *callbacks: Callback, **options: Any) -> TailIndexMonitor:
    seed_everything(0)
    monitor = TailIndexMonitor(32, num_minibatches=32, on_error="raise")
    own = {"default_root_dir": path, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(**own, **quiet, **options, callbacks=[*callbacks, monitor])
    trainer.fit(Mean(), DataLoader(Stream(samples), batch_size=batch_size))
    return monitor


@pytest.mark.parametrize("samples", [512, 513])
def test_the_small_last_batch_of_an_epoch_is_no_draw(samples: int, tmp_path: Path) -> None:
    report = measured(tmp_path, samples, 64, max_epochs=12).reports[-1]
    assert (report.whole_model.num_draws, report.minibatch_size) == (32, 64)
    assert report.whole_model.noise_norm == pytest.approx((50 / 64) ** 0.5, rel=0.15)
    assert report.whole_model.high == pytest.approx(2, abs=0.01)


def test_more_batches_are_kept_where_more_are_accumulated(tmp_path: Path) -> None:
    schedule = GradientAccumulationScheduler({0: 1, 1: 4})
    reports = measured(tmp_path, 640, 4, schedule, max_epochs=4).reports
    assert {report.whole_model.num_draws for report in reports} == {32}
    assert [report.minibatch_size for report in reports][:: len(reports) - 1] == [4, 16]
    for report in reports:
        assert report.whole_model.noise_norm == pytest.approx((50 / report.minibatch_size) ** 0.5, rel=0.15)
