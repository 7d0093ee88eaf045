"""Lengths are found without a change to what is asked for them."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, Sampler

from lightning_tailindex.noise.lengths import ends_short, known_length, last_batch_size, length_if_copied

from .test_loaders import Numbers


class Drawing:
    """Draws from every source of randomness there is to tell its length."""

    def __init__(self) -> None:
        self.own = np.random.default_rng(0)
        self.asked = 0

    def __len__(self) -> int:
        self.asked += 1
        random.random()
        np.random.rand()  # noqa: NPY002
        torch.rand(())
        return 20 + int(self.own.integers(1))


class DrawingData(Drawing, Numbers):
    pass


class DrawingSampler(Drawing, Sampler[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter(range(20))


def states(drawing: Any) -> tuple[object, ...]:
    numpy_state = np.random.get_state()  # noqa: NPY002
    own = (drawing.asked, str(drawing.own.bit_generator.state))
    return random.getstate(), str(numpy_state), torch.get_rng_state().tolist(), own


LOADERS: dict[str, Callable[[Any, Any], DataLoader[Any]]] = {
    "data": lambda data, sampler: DataLoader(data, 6),
    "data, shuffled": lambda data, sampler: DataLoader(data, 6, shuffle=True),
    "sampler": lambda data, sampler: DataLoader(Numbers(), 6, sampler=sampler),
    "batch sampler": lambda data, sampler: DataLoader(Numbers(), batch_sampler=sampler),
    "sampler of a batch sampler": lambda data, sampler: DataLoader(
        Numbers(), batch_sampler=BatchSampler(sampler, 6, False)
    ),
    "sampler's data": lambda data, sampler: DataLoader(data, 6, sampler=RandomSampler(data)),
}


@pytest.mark.parametrize("name", LOADERS)
def test_a_length_is_told_without_a_change(name: str) -> None:
    data, sampler = DrawingData(), DrawingSampler()
    loader = LOADERS[name](data, sampler)
    drawing: Any = data if name.startswith("data") or name == "sampler's data" else sampler
    before = states(drawing)
    length = known_length(loader)
    assert length == (20 if name == "batch sampler" else 4)
    assert ends_short(loader, length) == (name != "batch sampler")
    assert states(drawing) == before
    assert len(loader) == length
    assert all(a != b for a, b in zip(states(drawing), before, strict=True)), "the comparison cannot fail"


def test_what_cannot_be_copied_is_asked_itself_and_random_states_are_put_back() -> None:
    sampler: Any = DrawingSampler()
    sampler.stream = (i for i in range(3))
    *before, own = states(sampler)
    assert known_length(DataLoader(Numbers(), 6, sampler=sampler)) == 4
    *after, own_after = states(sampler)
    assert after == before
    assert own_after != own


class Database(Numbers):
    """Counts by a handle that its copies do not have."""

    def __init__(self) -> None:
        self.handle: list[int] | None = list(range(20))

    def __len__(self) -> int:
        assert self.handle is not None
        return len(self.handle)

    def __getstate__(self) -> dict[str, Any]:
        return {"handle": None}


def test_where_a_copy_has_lost_what_tells_its_length_the_original_is_asked() -> None:
    loader = DataLoader(Database(), 6)
    with pytest.raises(AssertionError):
        len(copy.deepcopy(loader))
    assert known_length(loader) == 4
    loader.dataset.handle = None  # type: ignore[attr-defined]
    assert known_length(loader) is None


def test_what_cannot_be_copied_has_no_length_of_its_copy_and_is_not_asked() -> None:
    sampler: Any = DrawingSampler()
    loader = DataLoader(Numbers(), 6, sampler=sampler)
    before = states(sampler)
    assert length_if_copied(loader) == 4
    sampler.stream = (i for i in range(3))
    assert length_if_copied(loader) is None
    assert states(sampler) == before


def test_what_has_no_length_has_none() -> None:
    class Endless(Sampler[list[int]]):
        def __iter__(self) -> Iterator[list[int]]:
            while True:
                yield [0]

    endless = DataLoader(Numbers(), batch_sampler=Endless())
    assert known_length(endless) is length_if_copied(endless) is None
    assert known_length(iter([])) is None
    assert known_length([1, 2, 3]) == 3


def test_nobody_knows_whether_a_sampler_without_a_length_ends_short() -> None:
    class Endless(Sampler[int]):
        def __iter__(self) -> Iterator[int]:
            while True:
                yield 0

    class Limited(DataLoader[Any]):
        def __len__(self) -> int:
            return 4

    assert not ends_short(Limited(Numbers(), 6, sampler=Endless()), 4)
    assert ends_short(Limited(Numbers(), 6, sampler=range(23)), 4)
    assert not ends_short(Limited(Numbers(), 6, sampler=range(24)), 4)


@pytest.mark.parametrize(("taken", "last"), [(4, 5), (3, 6), (1, 6), (5, None), (float("inf"), None)])
def test_the_last_batch_has_what_is_left(taken: float, last: int | None) -> None:
    assert last_batch_size(DataLoader(Numbers(), 6, sampler=range(23)), taken) == last
    assert last_batch_size(DataLoader(Numbers(), 6, sampler=range(23), drop_last=True), taken) == 6


def test_nobody_knows_what_is_left_of_a_stream() -> None:
    class Stream(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(range(23))

    assert last_batch_size(DataLoader(Stream(), 6), 4) is None
