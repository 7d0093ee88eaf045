"""Data that are read once are measured on complete minibatches, as many as a step consumes."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lightning_tailindex import SharpnessMonitor, TailIndexMonitor


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
    monitor = options.pop("monitor", None) or TailIndexMonitor(32, num_minibatches=32, on_error="raise")
    module = options.pop("module", Mean())
    loader = options.pop("loader", DataLoader(Stream(samples), batch_size=batch_size))
    own = {"default_root_dir": path, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(**own, **quiet, **options, callbacks=[*callbacks, monitor])
    trainer.fit(module, loader)
    return monitor


@pytest.mark.parametrize("samples", [512, 513])
def test_the_small_last_batch_of_an_epoch_is_no_draw(samples: int, tmp_path: Path) -> None:
    report = measured(tmp_path, samples, 64, max_epochs=12).reports[-1]
    assert (report.whole_model.num_draws, report.minibatch_size) == (32, 64)
    assert report.whole_model.noise_norm == pytest.approx((50 / 64) ** 0.5, rel=0.15)
    assert report.whole_model.high == pytest.approx(2, abs=0.01)


class Shared(IterableDataset[Tensor]):
    """Equal samples, of which each worker process has its part."""

    def __iter__(self) -> Iterator[Tensor]:
        worker = get_worker_info()
        assert worker is not None
        return iter(torch.ones(43 if worker.id == 0 else 70, 50))


class Sum(Mean):
    """Its gradient tells how many samples there are."""

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.weight * batch).sum()


@pytest.mark.parametrize("accumulated", [1, 2])
@pytest.mark.parametrize("source", ["extra", "training"])
def test_the_small_last_batch_of_each_worker_is_no_draw(source: Any, accumulated: int, tmp_path: Path) -> None:
    watcher = TailIndexMonitor(32, num_minibatches=16, source=source, on_error="raise")
    loader = DataLoader(Shared(), batch_size=8, num_workers=2)
    options = {"max_epochs": 8, "accumulate_grad_batches": accumulated}
    measured(tmp_path, 0, 8, loader=loader, module=Sum(), monitor=watcher, **options)
    assert [report.minibatch_size for report in watcher.reports] == [8 * accumulated] * len(watcher.reports)
    assert len(watcher.reports) > 0
    assert {report.whole_model.noise_norm for report in watcher.reports} == {0}


def test_more_batches_are_kept_where_more_are_accumulated(tmp_path: Path) -> None:
    schedule = GradientAccumulationScheduler({0: 1, 1: 4})
    reports = measured(tmp_path, 640, 4, schedule, max_epochs=4).reports
    assert {report.whole_model.num_draws for report in reports} == {32}
    assert [report.minibatch_size for report in reports][:: len(reports) - 1] == [4, 16]
    for report in reports:
        assert report.whole_model.noise_norm == pytest.approx((50 / report.minibatch_size) ** 0.5, rel=0.15)


@pytest.mark.parametrize(("source", "missing"), [("extra", "32 minibatches"), ("training", "64 steps in a row .*")])
def test_too_few_to_measure_are_told(
    source: Any, missing: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    watcher = TailIndexMonitor(8, num_minibatches=32, on_error="raise", source=source)
    assert measured(tmp_path, 160, 8, max_epochs=1, monitor=watcher).reports == []
    assert re.search(f"nothing was measured in this run: training did not show it {missing}", caplog.text)


def test_a_run_does_not_tell_of_what_the_one_before_lacked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    watcher = TailIndexMonitor(8, num_minibatches=32)
    measured(tmp_path, 160, 8, max_epochs=1, monitor=watcher)
    caplog.clear()
    with pytest.warns(UserWarning, match="does not fit"):
        measured(tmp_path, 512, 8, max_epochs=1, monitor=watcher, module=Broken())
    assert "nothing was measured in this run." in caplog.text


class Broken(Mean):
    """Fails in measurements."""

    def gradient_noise_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        raise ValueError("does not fit")


class Fetches(Mean):
    """Takes its batches from the iterator itself."""

    def training_step(self, dataloader_iter: Any) -> Tensor:  # type: ignore[override]
        return super().training_step(next(dataloader_iter)[0], 0)

    def gradient_noise_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx)


@pytest.mark.filterwarnings("ignore:.*`dataloader_iter`")
def test_steps_that_fetch_their_batches(tmp_path: Path) -> None:
    found = measured(tmp_path, 512, 8, max_epochs=2, module=Fetches())
    assert len(found.reports) > 1
    assert {report.whole_model.num_draws for report in found.reports} == {32}


def nested(rows: list[Tensor]) -> Tensor:
    return torch.nested.as_nested_tensor([row[: 30 + i] for i, row in enumerate(rows)])


def compressed(rows: list[Tensor]) -> Tensor:
    return torch.stack(rows).to_sparse_csr()


@dataclass
class Held:
    """A batch of a class of its own."""

    rows: Tensor


class Unusual(Mean):
    """Takes batches of unusual layouts, which cannot be stacked or copied as others are, and empties them."""

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        return batch

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        own = batch.rows if isinstance(batch, Held) else batch
        rows = torch.nested.to_padded_tensor(own, 0.0, (len(own.unbind()), 50)) if own.is_nested else own.to_dense()
        own.values().zero_()
        return super().training_step(rows, batch_idx)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage")
@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta state")
@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")
@pytest.mark.parametrize("is_held", [False, True])
@pytest.mark.parametrize("collate", [nested, compressed])
@pytest.mark.parametrize("source", ["a stream", "data", "a list"])
def test_batches_of_unusual_layouts(source: str, collate: Any, is_held: bool, tmp_path: Path) -> None:
    rows = torch.randn(512, 50, generator=torch.Generator().manual_seed(0))
    batches: Callable[[Any], Any] = lambda items: Held(collate(items)) if is_held else collate(items)  # noqa: E731
    data: Any = Stream(512) if source == "a stream" else rows
    own = list(DataLoader(rows, batch_size=8, collate_fn=batches)) if source == "a list" else None
    monitor = TailIndexMonitor(32, num_minibatches=32, dataloader=own, on_error="raise")
    sharpness = SharpnessMonitor(32, num_minibatches=2, trace_samples=None, dataloader=own, on_error="raise")
    settings = {"default_root_dir": tmp_path, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False, "max_epochs": 2}
    Trainer(**settings, **quiet, callbacks=[monitor, sharpness]).fit(
        Unusual(), DataLoader(data, batch_size=8, collate_fn=batches)
    )
    assert len(monitor.reports) > 1
    for report in monitor.reports:  # of batches that nobody emptied
        assert report.whole_model.num_draws == 32
        assert report.whole_model.noise_norm == pytest.approx((50 / 8) ** 0.5, rel=0.2)
    assert len(sharpness.reports) > 1
    assert sharpness.reports[-1].eigenvalues[0] == pytest.approx(1, rel=1e-3)  # the loss is a parabola
