"""Samplers are copied with all that they may write to."""

from __future__ import annotations

import random
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, Sampler

from lightning_tailindex.noise.samplers import own_samplers

from .test_loaders import Numbers, sweeps

COUNT = 200_000  # so many numbers are more than a MiB
ORDERS: dict[str, Callable[[], Any]] = {
    "list": lambda: list(range(COUNT)),
    "short list of lists": lambda: [list(range(i * 2000, (i + 1) * 2000)) for i in range(100)],
    "long list of lists": lambda: [[i, i + COUNT // 2] for i in range(COUNT // 2)],
    "dictionary": lambda: {label: list(range(label, COUNT, 10)) for label in range(10)},
    "array": lambda: np.arange(COUNT),
    "tensor": lambda: torch.arange(COUNT),
}


class InPlace(Sampler[int]):
    """Shuffles what it holds, and what that holds, each time it is iterated."""

    def __init__(self, order: Any) -> None:
        self.order = order
        self.same = order
        self.random = random.Random(0)

    def __len__(self) -> int:
        return COUNT

    def _shuffle(self, order: Any) -> None:
        if isinstance(order, torch.Tensor):
            order[:] = order.flip(0)
        elif not isinstance(order, dict):
            order[:] = order[::-1]
        if isinstance(order, (list, dict)):
            for part in order.values() if isinstance(order, dict) else order:
                if isinstance(part, list):
                    self._shuffle(part)

    def __iter__(self) -> Iterator[int]:
        self._shuffle(self.order)
        if isinstance(self.order, (np.ndarray, torch.Tensor)):
            yield from self.order.tolist()
            return
        for part in self.order.values() if isinstance(self.order, dict) else self.order:
            yield from part if isinstance(part, list) else [part]


@pytest.mark.parametrize("is_nested", [False, True])
@pytest.mark.parametrize("kind", ORDERS)
def test_an_order_that_is_shuffled_in_place_stays_what_it_is_for_training(kind: str, is_nested: bool) -> None:
    sampler = InPlace(ORDERS[kind]())
    batches: dict[str, Any] = {"batch_sampler": BatchSampler(sampler, COUNT, False)} if is_nested else {}
    loader = DataLoader(Numbers(COUNT), **(batches or {"batch_size": COUNT, "sampler": sampler}))
    untouched = list(InPlace(ORDERS[kind]()))
    (batch,) = sweeps(loader, 1)[0]
    assert sorted(batch) == list(range(COUNT))
    assert list(sampler) == untouched
    assert list(sampler) != untouched, "the comparison cannot fail"


@pytest.mark.parametrize("kind", ORDERS)
def test_what_two_attributes_have_in_common_they_have_in_common_in_the_copy(kind: str) -> None:
    sampler = InPlace(ORDERS[kind]())
    data = Numbers(COUNT)
    copied, _ = own_samplers(DataLoader(data, sampler=sampler), data)
    assert copied.order is copied.same
    assert copied.order is not sampler.order


def test_large_data_that_a_sampler_maps_from_a_file_are_shared(tmp_path: Any) -> None:
    mapped = np.memmap(tmp_path / "data", mode="w+", shape=(COUNT * 8,))
    data = Numbers(COUNT)
    copied, _ = own_samplers(DataLoader(data, sampler=InPlace(mapped)), data)
    assert copied.order is mapped


class Recent(OrderedDict[int, list[int]]):
    """Has last what was set last."""

    def __setitem__(self, key: int, value: list[int]) -> None:
        super().__setitem__(key, value)
        self.move_to_end(key)


def test_a_dictionary_that_reorders_itself_is_copied() -> None:
    held = Recent((label, [label]) for label in range(2000))  # too long for a copy that is not asked for
    data = Numbers(COUNT)
    copied, _ = own_samplers(DataLoader(data, sampler=InPlace(held)), data)
    assert copied.order == held
    assert copied.order is not held
    assert not any(copied.order[label] is held[label] for label in held)


class Popping(Sampler[int]):
    """Takes its samples out of what it holds."""

    def __init__(self, held: Any, inner: list[Sampler[int]]) -> None:
        self.held, self.inner = held, inner

    def __len__(self) -> int:
        return 4000

    def __iter__(self) -> Iterator[int]:
        while self.held:
            yield self.held.pop()
        for each in self.inner:
            yield from each


@pytest.mark.parametrize("kind", [set, deque])
def test_samplers_in_a_list_and_what_is_popped_from_stay_what_they_are(kind: type) -> None:
    sampler = Popping(kind(range(2000)), [Popping(kind(range(2000, 4000)), [])])
    (batch,) = sweeps(DataLoader(Numbers(4000), batch_size=4000, sampler=sampler), 1)[0]
    assert sorted(batch) == list(range(4000))
    assert sorted(sampler) == list(range(4000))
    assert list(sampler) == [], "the comparison cannot fail"


def test_a_stock_sampler_over_what_cannot_be_copied() -> None:
    data = Numbers(8)
    data.stream = (i for i in range(3))  # type: ignore[attr-defined]
    copied, _ = own_samplers(DataLoader(Numbers(8), sampler=RandomSampler(data)), Numbers(8))
    assert copied.data_source is data
