"""How many samples training's batches have, where their first dimension is not that of the samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

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


class Shared(IterableDataset[Tensor]):
    """The same samples, shared out to workers."""

    def __init__(self, samples: int) -> None:
        self.x = Series(samples).x.mean(1)

    def __iter__(self) -> Iterator[Tensor]:
        worker = get_worker_info()
        return iter(self.x if worker is None else self.x[worker.id :: worker.num_workers])


class MoreThanThereAre(Stream):
    """It says that it had more samples than it has."""

    def __len__(self) -> int:
        return 2 * len(self.x)


class Batched(Stream):
    """Its items are batches of 16, but for the last one."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.x.split(16))


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


def fit(path: Path, callback: Callback, collate: Callable[[Any], Any] | None, *, samples: int, **options: Any) -> None:
    data = options.pop("data", Series)(samples)
    loader = DataLoader(data, options.pop("batch_size", 16), isinstance(data, Series), collate_fn=collate)
    train(path, callback, loader, **options)


def train(path: Path, callback: Callback, loaders: Any, *, net: LightningModule | None = None, **options: Any) -> None:
    seed_everything(0)
    own = {"default_root_dir": path, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "max_steps": 200}
    Trainer(**{**own, **quiet, **options}, callbacks=[callback]).fit(net or Mean(), loaders)


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


@pytest.mark.parametrize("source", ["extra", "training"])
def test_a_loaders_one_item_may_be_a_batch(source: Any, tmp_path: Path) -> None:
    watcher = watching(source=source, every_n_steps=34, num_minibatches=16)
    fit(tmp_path, watcher, itemgetter(0), samples=257, data=Batched, batch_size=1)
    assert {report.minibatch_size for report in watcher.reports} == {16}


@pytest.mark.parametrize(
    "watcher",
    [
        watching(every_n_steps=34, num_minibatches=16),
        watching(every_n_steps=34, num_minibatches=16, source="extra"),
        IterateTailIndexMonitor(64, burn_in=0),
    ],
)
def test_all_monitors_say_the_same_of_loaders_of_single_samples(watcher: Any, tmp_path: Path) -> None:
    fit(tmp_path, watcher, itemgetter(0), samples=100, batch_size=1)
    assert {report.minibatch_size for report in watcher.reports} == {1}


@pytest.mark.parametrize("data", [Stream, MoreThanThereAre])
@pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__` defined")
def test_cut_batches_of_streams_are_counted(data: Any, tmp_path: Path) -> None:
    watcher = IterateTailIndexMonitor(window=170, burn_in=0, on_error="raise")
    fit(tmp_path, watcher, None, samples=257, data=data, max_steps=170)
    assert [report.minibatch_size for report in watcher.reports] == [pytest.approx(257 / 17)]


def test_a_stream_of_one_cut_batch_is_counted(tmp_path: Path) -> None:
    watcher = IterateTailIndexMonitor(window=20, burn_in=0, on_error="raise")
    fit(tmp_path, watcher, None, samples=24, data=Stream, batch_size=32, max_steps=20)
    assert [report.minibatch_size for report in watcher.reports] == [24]


class First(Mean):
    """Trains on the first part of a batch, and on another one where there is none."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch["b"] if batch["a"] is None else batch["a"], batch_idx)


def test_cut_batches_of_a_loader_that_begins_anew_are_counted(tmp_path: Path) -> None:
    watcher = IterateTailIndexMonitor(window=20, burn_in=0, on_error="raise")
    loaders = {"a": DataLoader(Series(20), 16), "b": DataLoader(Series(160), 16)}
    train(tmp_path, watcher, CombinedLoader(loaders, "max_size_cycle"), net=First(), max_steps=20)
    assert [report.minibatch_size for report in watcher.reports] == [10]


@pytest.mark.parametrize("mode", ["max_size", "max_size_cycle"])
def test_cut_batches_of_workers_are_no_draws_in_any_mode(mode: Any, tmp_path: Path) -> None:
    watcher = watching()
    loaders = {"a": DataLoader(Shared(514), 16, num_workers=2), "b": DataLoader(Shared(160), 16)}
    train(tmp_path, watcher, CombinedLoader(loaders, mode), net=First())
    assert len(watcher.reports) >= 2
    for report in watcher.reports:
        assert report.minibatch_size == 16
        assert report.whole_model.noise_norm == pytest.approx((WIDTH / STEPS / 16) ** 0.5, rel=0.15)
