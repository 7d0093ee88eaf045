"""Orders of reading cost what is read of them, however long they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler, RandomSampler, Sampler

from lightning_tailindex.noise.loaders import shuffled_batches
from lightning_tailindex.noise.orders import LOOK_AHEAD, Order

from .test_loaders import Numbers, OwnOrder, flat, sweeps

HUGE = 2**40


class Virtual(Dataset[int]):
    """Computes its samples, and so may have more of them than fit anywhere."""

    def __len__(self) -> int:
        return HUGE

    def __getitem__(self, index: int) -> int:
        return index


def read(loader: DataLoader[Any], count: int, seed: int = 0) -> list[list[int]]:
    batches = islice(shuffled_batches(loader, HUGE // 4, (seed,)), count)
    return [torch.as_tensor(batch.data).reshape(-1).tolist() for batch in batches]


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": False},
        {"shuffle": True},
        {"sampler": RandomSampler(Virtual(), replacement=True)},
        {"sampler": RandomSampler(Virtual(), num_samples=2 * HUGE)},
        {"batch_size": None},
    ],
)
def test_of_a_huge_data_set_nothing_is_drawn_that_is_not_read(options: dict[str, Any]) -> None:
    loader = DataLoader(Virtual(), **{"batch_size": 4, **options})
    drawn = flat(read(loader, 100))
    assert len(drawn) == len(set(drawn)) == (100 if options.get("batch_size", 4) is None else 400)
    assert min(drawn) < HUGE // 16
    # without collation, a sweep of a quarter of the batches has a quarter of the samples
    assert max(drawn) > (HUGE if "batch_size" not in options else HUGE // 4) * 0.9
    assert flat(read(loader, 100)) == drawn != flat(read(loader, 100, seed=1))


@pytest.mark.parametrize("by", ["samples", "batches", "samples without collation"])
def test_of_an_order_without_an_end_no_more_is_read_than_is_looked_ahead(by: str) -> None:
    class Endless(Sampler[Any]):
        taken = 0  # of the class, which copies have in common

        def __len__(self) -> int:
            return 2**31

        def __iter__(self) -> Iterator[Any]:
            while True:
                Endless.taken += 1
                yield [Endless.taken % 20] * 3 if by == "batches" else Endless.taken % 20

    options = {
        "samples": {"batch_size": 3, "sampler": Endless()},
        "batches": {"batch_sampler": Endless()},
        "samples without collation": {"batch_size": None, "sampler": Endless()},
    }
    stream = shuffled_batches(DataLoader(Numbers(), **options[by]), 2**31 // 3, (0,))  # type: ignore[arg-type]
    next(stream)
    window = LOOK_AHEAD * (3 if by == "samples" else 1)
    assert Endless.taken == window
    assert len(list(islice(stream, LOOK_AHEAD))) == LOOK_AHEAD
    assert Endless.taken == 2 * window


def test_an_own_order_is_shuffled_window_after_window_and_its_smaller_batch_stays_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loader = DataLoader(Numbers(44), 8, sampler=OwnOrder(44))
    at_once = [sorted(sweep) for sweep in sweeps(loader)]
    monkeypatch.setattr("lightning_tailindex.noise.orders.LOOK_AHEAD", 3)
    seen = set()
    for seed in range(8):
        for sweep, whole in zip(sweeps(loader, seed=seed), at_once, strict=True):
            assert sorted(sweep) == whole
            assert sorted(flat(sweep[:3])) == list(range(24))
            assert sweep[-1] == [40, 41, 42, 43]
            seen.add(tuple(flat(sweep)))
    assert len(seen) > 8
    assert sweeps(loader) == sweeps(loader)


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_large_data_set_is_read_whole_in_each_sweep(shuffle: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = DataLoader(Numbers(), 6, shuffle=shuffle)
    at_once = sweeps(loader)
    monkeypatch.setattr("lightning_tailindex.noise.orders._AT_ONCE", 10)
    first, second = sweeps(loader)
    assert [len(batch) for batch in first] == [6, 6, 6, 2]
    assert sorted(flat(first)) == sorted(flat(second)) == list(range(20))
    assert flat(first) != flat(second)
    assert [first, second] != at_once  # it is drawn by the other way


def test_each_permutation_is_as_likely_as_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_tailindex.noise.orders._AT_ONCE", 3)
    order = Order(DataLoader(Numbers(4)), 4, torch.Generator().manual_seed(0), 0)
    found = Counter(tuple(order.permutation(4)) for _ in range(4800))
    assert len(found) == 24
    assert sum((times - 200) ** 2 / 200 for times in found.values()) < 49.7  # χ² of 23 degrees of freedom, p = .001


def test_a_distributed_order_without_shuffling_is_drawn_from_all_of_it() -> None:
    size = 3 * LOOK_AHEAD
    sampler: DistributedSampler[int] = DistributedSampler(range(2 * size), 2, 1, shuffle=False)  # type: ignore[arg-type]
    loader = DataLoader(Numbers(2 * size), 1, sampler=sampler)
    drawn = [int(batch.data) for batch in islice(shuffled_batches(loader, size, (0,)), 300)]
    assert len(set(drawn)) == 300
    assert all(index % 2 for index in drawn)  # the second process's share
    assert min(drawn) < 0.1 * 2 * size
    assert max(drawn) > 0.9 * 2 * size
