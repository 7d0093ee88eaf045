"""How many samples training's batches have, where their first dimension is not that of the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset

from lightning_tailindex import IterateTailIndexMonitor, TailIndexMonitor

STEPS, WIDTH = 5, 40


class Series(Dataset[Tensor]):
    """Samples of ``STEPS`` rows each."""

    def __init__(self, samples: int) -> None:
        self.x = 3 + torch.randn(samples, STEPS, WIDTH, generator=torch.Generator().manual_seed(0))

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: int) -> Tensor:
        return self.x[index]


class Stream(IterableDataset[Tensor]):
    """The same samples, read once."""

    def __init__(self, samples: int) -> None:
        self.x = Series(samples).x

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.x)


@dataclass
class Hidden:
    """Keeps its tensor where nobody looks for one, as graph objects do."""

    store: Any

    def to(self, *args: Any, **kwargs: Any) -> Hidden:
        return Hidden(Box(self.store.x.to(*args, **kwargs)))


class Box:
    """What holds it."""

    def __init__(self, x: Tensor) -> None:
        self.x = x


def steps_first(samples: list[Tensor]) -> Tensor:
    return torch.stack(samples, 1)


def nodes(samples: list[Tensor]) -> dict[str, Tensor]:
    """Of each sample one to all of its rows; their mean is that of all."""
    rows = [len(each) - int(each[0, 0].abs() * 100) % len(each) for each in samples]
    return {"nodes": torch.cat([each.mean(0).expand(n, -1) / n for n, each in zip(rows, samples, strict=True)])}


def hidden(samples: list[Tensor]) -> Hidden:
    return Hidden(Box(torch.stack(samples)))


class Mean(LightningModule):
    """Its gradient is the mean of a batch's samples."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(WIDTH, 1, bias=False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if isinstance(batch, dict):
            return self.head(batch["nodes"]).sum() / 16
        return self.head(batch.store.x if isinstance(batch, Hidden) else batch).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-4)


def fit(path: Path, callback: Callback, collate: Callable[[Any], Any], *, samples: int, **options: Any) -> None:
    seed_everything(0)
    data = options.pop("data", Series)(samples)
    loader = DataLoader(data, options.pop("batch_size", 16), isinstance(data, Series), collate_fn=collate)
    own = {"default_root_dir": path, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "max_steps": 200}
    Trainer(**{**own, **quiet, **options}, callbacks=[callback]).fit(Mean(), loader)


def watching(**arguments: Any) -> TailIndexMonitor:
    settings = {"every_n_steps": 64, "num_minibatches": 32, "source": "training", "on_error": "raise"}
    return TailIndexMonitor(**{**settings, **arguments})


@pytest.mark.parametrize("collate", [steps_first, nodes, hidden])
def test_complete_batches_have_what_the_loader_says(collate: Callable[[Any], Any], tmp_path: Path) -> None:
    watcher = watching()
    fit(tmp_path, watcher, collate, samples=256)
    assert [(report.step, report.minibatch_size) for report in watcher.reports] == [(64, 16), (128, 16), (192, 16)]
    expected = (WIDTH / STEPS / 16) ** 0.5
    for report in watcher.reports:
        assert report.whole_model.noise_norm == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize("collate", [steps_first, nodes, hidden])
def test_a_cut_batch_is_no_draw(collate: Callable[[Any], Any], tmp_path: Path) -> None:
    watcher = watching()
    fit(tmp_path, watcher, collate, samples=257)
    assert [(report.step, report.minibatch_size) for report in watcher.reports] == [(67, 16), (128, 16), (192, 16)]


@pytest.mark.parametrize("collate", [steps_first, nodes, hidden])
def test_iterates_count_the_samples_of_steps(collate: Callable[[Any], Any], tmp_path: Path) -> None:
    watcher = IterateTailIndexMonitor(window=170, burn_in=0, on_error="raise")
    fit(tmp_path, watcher, collate, samples=257, max_steps=170)
    assert [report.minibatch_size for report in watcher.reports] == [pytest.approx(257 / 17)]


def test_an_epoch_of_one_batch_is_counted_too(tmp_path: Path) -> None:
    watcher = IterateTailIndexMonitor(window=20, burn_in=0, on_error="raise")
    fit(tmp_path, watcher, steps_first, samples=24, batch_size=32, max_steps=20)
    assert [report.minibatch_size for report in watcher.reports] == [24]


@pytest.mark.parametrize("source", ["extra", "training"])
@pytest.mark.parametrize("collate", [steps_first, hidden])
def test_of_a_stream_the_last_batch_is_no_draw_where_nobody_knows(
    collate: Callable[[Any], Any], source: Any, tmp_path: Path
) -> None:
    watcher = watching(source=source, every_n_steps=34, num_minibatches=16)
    fit(tmp_path, watcher, collate, samples=257, data=Stream)
    assert len(watcher.reports) >= 3
    for report in watcher.reports:
        assert report.minibatch_size == 16
        assert report.whole_model.noise_norm == pytest.approx((WIDTH / STEPS / 16) ** 0.5, rel=0.25)
