"""What gives each thing once, to whoever asks: training gets all of it, and nobody waits for what never comes."""

from __future__ import annotations

import itertools
import multiprocessing
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor
from torch.utils.data import DataLoader, default_collate

from lightning_tailindex import TailIndexMonitor

from .training_trace import NaiveMeasurement, Net, NoisyData, Trace, train

pytestmark = pytest.mark.uncounted

FEEDERS: list[threading.Event] = []
AT_THE_END: list[Callable[[], object]] = []


@pytest.fixture(autouse=True)
def _threads_end() -> Iterator[None]:
    yield
    while FEEDERS:
        FEEDERS.pop().set()
    while AT_THE_END:
        AT_THE_END.pop()()


def fed(items: Any) -> Any:
    """Has a thread put one number after the other into a queue, for as long as the test runs."""
    end = threading.Event()
    FEEDERS.append(end)

    def feed() -> None:
        for i in itertools.count():
            while not end.is_set():
                try:
                    items.put(0.01 * i, timeout=0.1)
                    break
                except queue.Full:
                    continue
            if end.is_set():
                return

    threading.Thread(target=feed, daemon=True).start()
    return items


class Fed(NoisyData):
    """Adds to its samples what a thread prepares for it."""

    def __init__(self, kind: type[Any] = queue.Queue) -> None:
        super().__init__()
        self.prepared = fed(kind(4))

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = super().__getitem__(index)
        return x + self.prepared.get(), y


class Ahead(NoisyData):
    """Has the next number computed while this one is used."""

    def __init__(self) -> None:
        super().__init__()
        self.count = itertools.count()
        self.pool = ThreadPoolExecutor(1)
        self.compute(0.01)

    def compute(self, value: float) -> None:
        """Begins what is not done before somebody asks for it, as it may not be where it takes long."""
        asked = self.asked = threading.Event()
        self.next = self.pool.submit(lambda: value if asked.wait(timeout=10) else 0.0)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = super().__getitem__(index)
        self.asked.set()
        value = self.next.result()
        self.compute(value + 0.01)
        return x + value, y


class GathersNoise:
    """Makes batches and adds what a generator, or the iterator of another loader, gives."""

    def __init__(self, source: Iterator[Any]) -> None:
        self.source = source

    def __call__(self, rows: list[tuple[Tensor, Tensor]]) -> Any:
        x, y = default_collate(rows)
        return [x + next(self.source), y]


def noise() -> Iterator[Tensor]:
    generator = torch.Generator().manual_seed(1)
    while True:
        yield 0.1 * torch.randn(6, generator=generator)


class Infinite(DataLoader[Any]):
    """Keeps its own iterator and begins anew when it has ended."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.kept = super().__iter__()

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        try:
            return next(self.kept)
        except StopIteration:
            self.kept = super().__iter__()
            return next(self.kept)


class Again:
    """Repeats a batch sampler for ever."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def __iter__(self) -> Iterator[Any]:
        while True:
            yield from self.sampler


class OfManyEpochs(DataLoader[Any]):
    """Reads through one iterator in all epochs and ends its workers itself, as loaders of vision libraries do."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        object.__setattr__(self, "batch_sampler", Again(self.batch_sampler))
        self.kept: Any = super().__iter__()

    def __len__(self) -> int:
        sampler: Any = self.batch_sampler
        return len(sampler.sampler)

    def __iter__(self) -> Any:
        for _ in range(len(self)):
            yield next(self.kept)

    def __del__(self) -> None:
        for worker in getattr(self.kept, "_workers", ()):
            worker.terminate()


class OfAManager(NoisyData):
    """Counts for all processes at once."""

    def __init__(self) -> None:
        super().__init__()
        manager = multiprocessing.Manager()
        AT_THE_END.append(manager.shutdown)
        self.counts = manager.dict(reads=0)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = super().__getitem__(index)
        self.counts["reads"] += 1
        return x + 1e-3 * self.counts["reads"], y


class BetweenProcesses(NoisyData):
    """Takes from a queue that worker processes share."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: Any = multiprocessing.Queue()
        for i in range(2000):
            self.queue.put(1e-3 * i)
        AT_THE_END.append(self.queue.cancel_join_thread)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        x, y = super().__getitem__(index)
        return x + self.queue.get(), y


def loader(
    data: Callable[[], Any] = NoisyData, kind: type[DataLoader[Any]] = DataLoader, **options: Any
) -> Callable[[], Any]:
    return lambda: kind(data(), **{"batch_size": 6, "shuffle": True, **options})


def gathered(source: Callable[[], Iterator[Any]]) -> Callable[[], Any]:
    return lambda: loader(collate_fn=GathersNoise(source()))()


def another() -> Iterator[Any]:
    return iter(DataLoader(torch.arange(600) / 100.0, batch_size=1))


KINDS: dict[str, Callable[[], Any]] = {
    "a queue that a thread fills": loader(Fed),
    "a queue of the last in first out": loader(lambda: Fed(queue.LifoQueue)),
    "a queue in the order of its items": loader(lambda: Fed(queue.PriorityQueue)),
    "a result that is still computed": loader(Ahead),
    "a loader that is its own iterator": loader(kind=Infinite),
    "a loader that is its own iterator, by a worker": loader(kind=Infinite, num_workers=1),
    "a loader of many epochs": loader(kind=OfManyEpochs),
    "a loader of many epochs, by workers": loader(kind=OfManyEpochs, num_workers=2),
    "a generator that batches are made with": gathered(noise),
    "another loader that batches are made with": gathered(another),
    "a manager's dictionary": loader(OfAManager),
    "a manager's dictionary by a worker": loader(OfAManager, num_workers=1),
    "a queue of processes": loader(BetweenProcesses),
    "a queue of processes by a worker": loader(BetweenProcesses, num_workers=1),
}
DETERMINISTIC = [kind for kind in KINDS if "last in" not in kind]


def monitor(**options: Any) -> TailIndexMonitor:
    return TailIndexMonitor(3, num_minibatches=16, **{"on_error": "raise", **options})


def run(folder: Path, kind: str, *callbacks: Callback) -> Trace:
    return train(str(folder), KINDS[kind], callbacks, max_epochs=5, limit_train_batches=7)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_data_that_are_taken_once_are_measured_on_what_training_took(kind: str, tmp_path: Path) -> None:
    watcher = monitor()
    watched = run(tmp_path / "with", kind, watcher)
    assert {report.whole_model.num_draws for report in watcher.reports} == {16}
    if kind in DETERMINISTIC:
        without = run(tmp_path / "without", kind)
        assert without.differences(watched) == []
        assert "parameters" in without.differences(run(tmp_path / "naive", kind, NaiveMeasurement()))


class Signals(Net):
    """Wakes a thread at each step, and adds what the thread has counted."""

    def __init__(self) -> None:
        super().__init__()
        self.go, self.ready, self.wakes = threading.Event(), threading.Event(), [0]

    def on_train_start(self) -> None:
        end = threading.Event()
        FEEDERS.extend((end, self.go))

        def count(go: threading.Event, ready: threading.Event, wakes: list[int]) -> None:
            while not end.is_set():
                go.wait()
                go.clear()
                wakes[0] += 1
                ready.set()

        threading.Thread(target=count, args=(self.go, self.ready, self.wakes), daemon=True).start()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.go.set()
        self.ready.wait()
        self.ready.clear()
        return super().training_step([batch[0] + 0.01 * self.wakes[0], batch[1]], batch_idx)


class Takes(Net):
    """Takes what a thread prepares."""

    def __init__(self) -> None:
        super().__init__()
        self.prepared = fed(queue.Queue(4))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step([batch[0] + self.prepared.get(), batch[1]], batch_idx)


class Waits(Net):
    """Waits for what another thread computes."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = ThreadPoolExecutor(1)
        self.next = self.pool.submit(lambda: 0.01)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        value = self.next.result()
        self.next = self.pool.submit(lambda: value + 0.01)
        return super().training_step([batch[0] + value, batch[1]], batch_idx)


@pytest.mark.filterwarnings("ignore:TailIndexMonitor")
@pytest.mark.parametrize("module", [Signals, Takes, Waits])
def test_a_step_that_waits_for_a_thread_is_not_waited_for(module: type[Net], tmp_path: Path) -> None:
    without, _ = train(str(tmp_path / "without"), loader(), module=module)
    watched, trainer = train(str(tmp_path / "with"), loader(), [monitor(on_error="warn")], module=module)
    assert trainer.global_step == 21
    assert without.differences(watched) == []
    naive, _ = train(str(tmp_path / "naive"), loader(), [NaiveMeasurement()], module=module)
    assert "parameters" in without.differences(naive)


def test_waiting_is_told_in_words(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="would wait for another thread"):
        train(str(tmp_path), loader(), [monitor()], module=Signals)


class KeepsAQueue(Net):
    """Fills and empties a queue of its own, which nobody else knows."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: queue.Queue[float] = queue.Queue()
        self.is_on = threading.Event()

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.is_on.set()
        self.is_on.wait()
        self.kept.put(float(batch_idx))
        if self.kept.qsize() > 3:
            batch[0] += 0.01 * self.kept.get()
        self.seen += self.kept.qsize()
        return super().training_step(batch, batch_idx)


def test_a_queue_that_nobody_else_fills_is_copied(tmp_path: Path) -> None:
    without, _ = train(str(tmp_path / "without"), loader(), module=KeepsAQueue)
    watcher = monitor()
    watched, _ = train(str(tmp_path / "with"), loader(), [watcher], module=KeepsAQueue)
    assert len(watcher.reports) == 7
    assert without.differences(watched) == []
    naive, _ = train(str(tmp_path / "naive"), loader(), [NaiveMeasurement()], module=KeepsAQueue)
    assert "parameters" in without.differences(naive)
