"""Loaders and batches of every kind that the Trainer takes: training is the same bit for bit, and is measured."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from lightning.pytorch import Callback, LightningDataModule
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, Sampler, default_collate
from torchdata.stateful_dataloader import StatefulDataLoader

from lightning_tailindex import SharpnessMonitor, TailIndexMonitor

from .training_trace import NaiveMeasurement, Net, NoisyData, Trace, train

pytestmark = pytest.mark.uncounted


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """Goes on where it stopped, epoch after epoch, and can be told where to go on."""

    def __init__(self) -> None:
        self.reads = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(80):
            self.reads += 1
            yield torch.randn(6, generator=torch.Generator().manual_seed(self.reads)), torch.tensor(self.reads % 3)

    def state_dict(self) -> dict[str, int]:
        return {"reads": self.reads}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.reads = state["reads"]


class SizedStream(Stream):
    def __len__(self) -> int:
        return 80


class StatefulLoader(DataLoader[Any]):
    """Remembers how far it was read, in a dictionary of its own, and says so in checkpoints."""

    progress: dict[str, int]

    def __iter__(self) -> Any:
        for batch in super().__iter__():
            vars(self).setdefault("progress", {"batches": 0})["batches"] += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        return {**self.progress, **getattr(self.dataset, "state_dict", dict)()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.progress = dict(state)


class Endless(Sampler[int]):
    """Has no length."""

    def __iter__(self) -> Iterator[int]:
        while True:
            yield int(torch.randint(40, ()))


class Cut(DataLoader[Any]):
    """Knows its length, which the sampler does not."""

    def __len__(self) -> int:
        return 8

    def __iter__(self) -> Any:
        return islice(super().__iter__(), 8)


class OwnLoader:
    """No DataLoader: it yields ready-made batches and counts them."""

    def __init__(self) -> None:
        self.batches = [default_collate([NoisyData()[i] for i in range(k, k + 6)]) for k in range(0, 24, 6)]
        self.given = 0

    def __iter__(self) -> Iterator[Any]:
        for x, y in self.batches:
            self.given += 1
            yield [x + 0.01 * self.given, y]


class InSharedMemory(NoisyData):
    """Counts for all processes at once, by a tensor and by a value with a lock."""

    def __init__(self) -> None:
        super().__init__()
        self.count = torch.zeros(1).share_memory_()
        self.value, self.lock = multiprocessing.Value("i", 0), multiprocessing.Lock()

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = super().__getitem__(index)
        with self.lock, self.value.get_lock():
            self.count += 1
            self.value.value += 1
            return x + 1e-3 * self.count.item() + 1e-3 * self.value.value, y


class BecomesAStream(LightningDataModule):
    """Has a data set in the first epoch and a stream from then on."""

    def train_dataloader(self) -> DataLoader[Any]:
        assert self.trainer is not None
        return noisy()() if self.trainer.current_epoch == 0 else stream()()


class Pair(NamedTuple):
    x: Tensor
    y: Tensor


@dataclass
class Record:
    x: Tensor
    y: Tensor
    name: str = "text"


@dataclass(slots=True)
class Slots:
    x: Tensor
    y: Tensor


class Graph:
    """Like the batches of graph libraries: a class of its own that knows how to move."""

    def __init__(self, x: Tensor, edges: Tensor, y: Tensor) -> None:
        self.x, self.edges, self.y = x, edges, y

    def to(self, device: Any, *args: Any, **kwargs: Any) -> Graph:
        return Graph(self.x.to(device), self.edges.to(device), self.y.to(device))


class TakesAttributes(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step([batch.x, batch.y], batch_idx)


class TakesKeys(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step([batch["x"], batch["y"]["label"]], batch_idx)


class TakesGraphs(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        source, target = batch.edges
        messages = torch.zeros_like(batch.x).index_add(0, target, batch.x[source])
        return super().training_step([batch.x + 0.1 * messages, batch.y], batch_idx)


class TakesSeveral(Net):
    """The batches of several loaders at once, some of which may be used up already."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        parts = [part for part in (batch.values() if isinstance(batch, dict) else batch) if part is not None]
        rest = [self.head(self.body(part[0])).square().mean() for part in parts[1:]]
        return super().training_step(parts[0], batch_idx) + 0.5 * sum(rest, torch.zeros(()))


class Data(LightningDataModule):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = {"batch_size": 6, "shuffle": True, **options}
        self.made = 0

    def train_dataloader(self) -> DataLoader[Any]:
        self.made += 1
        return DataLoader(NoisyData(36 + 6 * self.made), **self.options)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return [batch[0] + 0.01 * torch.randn(6), batch[1]]


def graphs(rows: list[tuple[Tensor, Tensor]]) -> Graph:
    x, y = default_collate(rows)
    nodes = torch.arange(len(x))
    return Graph(x, torch.stack([nodes, nodes.flip(0)]), y)


def keys(rows: list[tuple[Tensor, Tensor]]) -> dict[str, Any]:
    x, y = default_collate(rows)
    return {"name": "text", "x": x, "y": {"label": y}}


def two() -> list[DataLoader[Any]]:
    return [DataLoader(NoisyData(), 6, shuffle=True), DataLoader(NoisyData(20), 4, shuffle=True)]


def named() -> dict[str, DataLoader[Any]]:
    return dict(zip("ab", two(), strict=True))


def noisy(**options: Any) -> Callable[[], DataLoader[Any]]:
    return lambda: DataLoader(NoisyData(), **{"batch_size": 6, "shuffle": True, **options})


def stream(data: type[Stream] = Stream, **options: Any) -> Callable[[], DataLoader[Any]]:
    return lambda: DataLoader(data(), **{"batch_size": 8, **options})


def distributed() -> DataLoader[Any]:
    data = NoisyData(80)
    return DataLoader(data, 6, sampler=DistributedSampler(data, num_replicas=2, rank=1))


KINDS: dict[str, dict[str, Any]] = {
    "stream with a length": {"loader": stream(SizedStream)},
    "stream by persistent workers": {
        "loader": stream(num_workers=2, persistent_workers=True),
        "max_epochs": 2,
        "max_steps": 40,  # the naive measurement starts the epoch again and again
    },
    "stateful stream by a stateful loader": {"loader": lambda: StatefulLoader(Stream(), 8)},
    "stateful loader": {"loader": lambda: StatefulLoader(NoisyData(), 6, shuffle=True)},
    "torchdata": {"loader": lambda: StatefulDataLoader(NoisyData(), 6, shuffle=True)},
    "torchdata by workers": {
        "loader": lambda: StatefulDataLoader(NoisyData(), 6, shuffle=True, num_workers=2, persistent_workers=True)
    },
    "torchdata of a stream": {"loader": lambda: StatefulDataLoader(Stream(), 8)},
    "no DataLoader": {"loader": OwnLoader, "max_epochs": 6},
    "distributed sampler": {"loader": distributed},
    "a length that the sampler does not know": {"loader": lambda: Cut(NoisyData(), 6, sampler=Endless())},
    "CombinedLoader min_size": {"loader": lambda: CombinedLoader(named(), "min_size"), "module": TakesSeveral},
    "CombinedLoader max_size": {
        "loader": lambda: CombinedLoader(named(), "max_size"),
        "module": TakesSeveral,
        "max_epochs": 4,
    },
    "CombinedLoader max_size_cycle": {
        "loader": lambda: CombinedLoader(two(), "max_size_cycle"),
        "module": TakesSeveral,
    },
    "CombinedLoader with a stream": {"loader": lambda: [*two(), stream()()], "module": TakesSeveral},
    "dictionary": {"loader": named, "module": TakesSeveral},
    "list": {"loader": two, "module": TakesSeveral},
    "tuple": {"loader": lambda: tuple(two()), "module": TakesSeveral},
    "data module": {"loader": Data},
    "a stream from the second epoch on": {
        "loader": BecomesAStream,
        "reload_dataloaders_every_n_epochs": 1,
        "max_epochs": 4,
    },
    "counters in shared memory": {"loader": lambda: DataLoader(InSharedMemory(), 6, shuffle=True)},
    "counters in shared memory by a worker": {
        "loader": lambda: DataLoader(InSharedMemory(), 6, shuffle=True, num_workers=1)
    },
    "data module with persistent workers": {"loader": lambda: Data(num_workers=2, persistent_workers=True)},
    "data module reloaded": {"loader": Data, "reload_dataloaders_every_n_epochs": 1},
    "data module reloaded, by workers": {
        "loader": lambda: Data(num_workers=2, persistent_workers=True),
        "reload_dataloaders_every_n_epochs": 1,
    },
    "data module overfitting": {"loader": lambda: Data(shuffle=False), "overfit_batches": 3},
    "overfit_batches as a share": {"loader": noisy(shuffle=False), "overfit_batches": 0.5},
    "limit_train_batches as a share": {"loader": noisy(), "limit_train_batches": 0.5},
    "limit_train_batches of two loaders": {"loader": two, "module": TakesSeveral, "limit_train_batches": 3},
    "limit_train_batches of a stream": {"loader": stream(), "limit_train_batches": 9},
    "batches as dictionaries": {"loader": noisy(collate_fn=keys), "module": TakesKeys},
    "batches as named tuples": {
        "loader": noisy(collate_fn=lambda r: Pair(*default_collate(r))),
        "module": TakesAttributes,
    },
    "batches as data classes": {
        "loader": noisy(collate_fn=lambda r: Record(*default_collate(r))),
        "module": TakesAttributes,
    },
    "batches as graphs": {"loader": noisy(collate_fn=graphs), "module": TakesGraphs},
    "a stream of graphs": {"loader": stream(collate_fn=graphs), "module": TakesGraphs},
    "a stream of dictionaries": {"loader": stream(collate_fn=keys), "module": TakesKeys},
    "a stream of data classes": {
        "loader": stream(collate_fn=lambda r: Record(*default_collate(r))),
        "module": TakesAttributes,
    },
    "a stream of data classes with slots": {
        "loader": stream(collate_fn=lambda r: Slots(*default_collate(r))),
        "module": TakesAttributes,
    },
}


def run(path: Path, kind: str, *callbacks: Callback) -> Trace:
    options = dict(KINDS[kind])
    return train(str(path), options.pop("loader"), callbacks, **options)[0]


def monitor() -> TailIndexMonitor:
    settings: dict[str, Any] = {"full_gradient_batches": None, "group_by": "model"}
    return TailIndexMonitor(every_n_steps=8, num_minibatches=16, on_error="raise", **settings)


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata calls it
@pytest.mark.filterwarnings("ignore:Your `IterableDataset` has `__len__` defined")
@pytest.mark.parametrize("kind", KINDS)
def test_training_is_the_same_bit_for_bit(kind: str, tmp_path: Path) -> None:
    without = run(tmp_path / "without", kind)
    watcher = monitor()
    watched = run(tmp_path / "with", kind, watcher)
    assert watcher.reports, "nothing was measured, so nothing was shown"
    assert all(report.whole_model.num_draws == 16 for report in watcher.reports)
    assert without.differences(watched) == []
    assert "parameters" in without.differences(run(tmp_path / "naive", kind, NaiveMeasurement()))


def test_what_is_read_again_nowhere_is_told_by_its_mode(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    other = SharpnessMonitor(8, num_minibatches=2, trace_samples=None, on_error="raise")
    train(str(tmp_path), lambda: CombinedLoader(named(), "max_size"), [monitor(), other], module=TakesSeveral)
    reason = "as a CombinedLoader of mode 'max_size' is not read a second time"
    assert f"on the last minibatches that training saw, {reason}" in caplog.text
    assert f"which are the first that training sees, {reason}" in caplog.text


def test_lightning_itself_refuses_loaders_one_after_the_other(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='does not support the `CombinedLoader\\(mode="sequential"\\)` mode'):
        train(str(tmp_path), lambda: CombinedLoader(named(), "sequential"), [monitor()], module=TakesSeveral)
