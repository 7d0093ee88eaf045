import ctypes
from collections.abc import Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from lightning_tailindex.noise.cloning import fresh_clone
from lightning_tailindex.noise.lengths import loader_batch_size
from lightning_tailindex.noise.loaders import can_be_cloned, shuffled_batches
from lightning_tailindex.noise.minibatches import SweepPlan, plan_minibatches


class Numbers(Dataset[int]):
    def __init__(self, size: int = 20) -> None:
        self.size = size
        self.reads = 0

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> int:
        self.reads += 1
        return index


def sweeps(loader: DataLoader[int], count: int = 2, length: int | None = None, **options: int) -> list[list[list[int]]]:
    """Reads whole sweeps: for each the batches, for each the samples."""
    length = len(loader) if length is None else length
    stream = shuffled_batches(loader, length, (options.pop("seed", 0), 0), **options)
    batches = list(islice(stream, count * length))
    assert all(batch.size == len(batch.data) for batch in batches)  # type: ignore[arg-type]
    data = [batch.data.tolist() for batch in batches]  # type: ignore[attr-defined]
    return [data[i * length : (i + 1) * length] for i in range(count)]


def flat(batches: list[list[int]]) -> list[int]:
    return [sample for batch in batches for sample in batch]


@pytest.mark.parametrize("shuffle", [True, False])
def test_each_sweep_is_a_new_shuffle_of_everything(shuffle: bool) -> None:
    first, second = sweeps(DataLoader(Numbers(), 6, shuffle=shuffle))
    assert [len(batch) for batch in first] == [6, 6, 6, 2]
    assert sorted(flat(first)) == sorted(flat(second)) == list(range(20))
    assert flat(first) != flat(second) != list(range(20))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_each_batch_knows_its_samples(num_workers: int) -> None:
    loader = DataLoader(Numbers(), 6, shuffle=True, num_workers=num_workers)
    batches = list(islice(shuffled_batches(loader, 4, (0, 0)), 9))
    assert [batch.samples for batch in batches] == [tuple(batch.data.tolist()) for batch in batches]  # type: ignore[attr-defined]
    assert len(batches[3].samples) == 2


def test_what_is_no_number_is_no_index() -> None:
    class Pairs(Numbers):
        def __getitem__(self, index: Any) -> int:
            return super().__getitem__(index[0])

    class Named(Sampler[Any]):
        def __iter__(self) -> Iterator[Any]:
            return iter([(i, "left") for i in range(20)])

        def __len__(self) -> int:
            return 20

    loader = DataLoader(Pairs(), 6, sampler=Named())
    assert {batch.samples for batch in islice(shuffled_batches(loader, 4, (0, 0)), 4)} == {()}
    whole = DataLoader(Numbers(), batch_size=None)
    assert {batch.samples for batch in islice(shuffled_batches(whole, 4, (0, 0)), 4)} == {()}


def test_the_seed_decides_the_order() -> None:
    loader = DataLoader(Numbers(), 6, shuffle=True)
    assert sweeps(loader) == sweeps(loader) != sweeps(loader, seed=1)


def test_the_incomplete_batch_is_dropped_where_training_drops_it() -> None:
    assert [len(batch) for batch in sweeps(DataLoader(Numbers(), 6, shuffle=True, drop_last=True))[0]] == [6, 6, 6]


def test_a_fixed_order_cut_short_is_shuffled_within_the_samples_that_training_takes() -> None:
    first, second = sweeps(DataLoader(Numbers(), 6), length=2)
    assert sorted(flat(first)) == sorted(flat(second)) == list(range(12))


def test_a_random_order_cut_short_takes_its_samples_from_everything() -> None:
    assert max(flat(flat(sweeps(DataLoader(Numbers(), 6, shuffle=True), count=9, length=1)))) > 12  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "sampler",
    [
        SubsetRandomSampler([1, 3, 5, 7], generator=torch.Generator().manual_seed(1)),
        WeightedRandomSampler([0.0, 1.0] * 10, 8, generator=torch.Generator().manual_seed(1)),
        RandomSampler(range(0, 20), num_samples=8, generator=torch.Generator().manual_seed(1)),
    ],
)
def test_stock_samplers_draw_from_a_generator_of_the_measurement(sampler: Sampler[int]) -> None:
    before = sampler.generator.get_state()  # type: ignore[attr-defined]
    drawn = flat(sweeps(DataLoader(Numbers(), 4, sampler=sampler))[0])
    assert torch.equal(sampler.generator.get_state(), before)  # type: ignore[attr-defined]
    assert len(drawn) == len(sampler)  # type: ignore[arg-type]
    if not isinstance(sampler, RandomSampler):
        assert all(sample % 2 for sample in drawn)


class Counting(Sampler[int]):
    def __init__(self) -> None:
        self.position = 0

    def __len__(self) -> int:
        return 6

    def __iter__(self) -> Iterator[int]:
        for _ in range(6):
            self.position += 1
            yield self.position


def test_a_custom_sampler_is_followed_in_a_copy() -> None:
    sampler = Counting()
    first, second = sweeps(DataLoader(Numbers(), 3, sampler=sampler))
    assert sorted(first) == [[1, 2, 3], [4, 5, 6]]  # its batches, in random order
    assert sorted(second) == [[7, 8, 9], [10, 11, 12]]
    assert sampler.position == 0


def test_a_sampler_that_cannot_be_copied_is_not_used_instead() -> None:
    sampler = Counting()
    sampler.stream = (i for i in range(3))  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="generator"):
        sweeps(DataLoader(Numbers(), 3, sampler=sampler))


class Once(Counting):
    def __iter__(self) -> Iterator[int]:
        self.position += 1
        yield from range(6) if self.position == 1 else ()


def test_a_sampler_that_gives_nothing_more_ends_the_stream() -> None:
    assert len(list(shuffled_batches(DataLoader(Numbers(), 3, sampler=Once()), 2, (0,)))) == 2


@pytest.mark.parametrize("drop_last", [False, True])
def test_an_explicit_stock_batch_sampler_is_as_good_as_an_implicit_one(drop_last: bool) -> None:
    loader = DataLoader(Numbers(), batch_sampler=BatchSampler(RandomSampler(range(20)), 6, drop_last))
    first, second = sweeps(loader)
    assert sorted(len(batch) for batch in first) == ([6, 6, 6] if drop_last else [2, 6, 6, 6])
    assert loader_batch_size(loader) == 6
    assert flat(first) != flat(second)


class AsksItsSampler(DataLoader[int]):
    """Stops after as many batches as its sampler has, as some subclasses do."""

    def __iter__(self) -> Any:
        return islice(super().__iter__(), len(self))


def test_a_loader_that_counts_its_batches_is_read_again() -> None:
    first, second = sweeps(AsksItsSampler(Numbers(), 6, shuffle=True))
    assert sorted(flat(first)) == sorted(flat(second)) == list(range(20))


class Growing(BatchSampler):
    def __iter__(self) -> Iterator[list[int]]:
        yield from ([0], [1, 2], [3, 4, 5])

    def __len__(self) -> int:
        return 3


def test_a_custom_batch_sampler_is_followed() -> None:
    loader = DataLoader(Numbers(), batch_sampler=Growing(range(6), 2, False))
    assert [sorted(sweep) for sweep in sweeps(loader)] == [[[0], [1, 2], [3, 4, 5]]] * 2


@pytest.mark.parametrize("shuffle", [True, False])
def test_ranks_share_a_shuffle_of_a_distributed_sampler_that_training_never_sees(shuffle: bool) -> None:
    samplers = [DistributedSampler(Numbers(), 2, rank, shuffle=shuffle) for rank in range(2)]
    loaders = [DataLoader(Numbers(), 5, sampler=sampler) for sampler in samplers]
    parts = [sweeps(loader, rank=rank) for rank, loader in enumerate(loaders)]
    for first, second in zip(*parts, strict=True):
        assert sorted(flat(first) + flat(second)) == list(range(20))
    assert flat(parts[0][0]) != flat(parts[0][1])
    assert [sampler.epoch for sampler in samplers] == [0, 0]


def test_data_that_cannot_be_copied_are_left_to_worker_processes() -> None:
    data: Any = Numbers()
    data.stream = (i for i in range(3))
    assert fresh_clone(DataLoader(data, 4, num_workers=1)).dataset is data
    pointing: Any = Numbers()
    pointing.at = ctypes.pointer(ctypes.c_int(1))
    clone = fresh_clone(DataLoader(pointing, 4, num_workers=1)).dataset
    assert clone is not pointing
    assert clone.at is pointing.at  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="generator"):
        fresh_clone(DataLoader(data, 4))


class OwnOrder(Sampler[int]):
    """Nobody but its author knows its order."""

    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.size))


def test_a_smaller_last_batch_of_an_own_order_stays_the_last() -> None:
    loader = DataLoader(Numbers(44), 8, sampler=OwnOrder(44))
    for seed in range(4):
        for sweep in sweeps(loader, seed=seed):
            assert sweep[-1] == [40, 41, 42, 43]
            assert sorted(flat(sweep)) == list(range(44))
    plan = SweepPlan(16, None, 2, batch_size=8, ends_short=True)
    small = DataLoader(Numbers(12), 8, sampler=OwnOrder(12))
    for seed in range(4):
        drawn = list(plan_minibatches(shuffled_batches(small, 2, (seed,)), plan))
        assert sum(minibatch.is_draw for minibatch in drawn) == 16


def test_without_collation_each_sample_is_a_batch() -> None:
    stream = shuffled_batches(DataLoader(Numbers(), batch_size=None), 20, (0,))
    batches = list(islice(stream, 20))
    assert sorted(batch.data for batch in batches) == list(range(20))  # type: ignore[type-var]
    assert {batch.size for batch in batches} == {None}


class Batches(Dataset[torch.Tensor]):
    """A data set of ready-made batches."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.zeros(index + 1)


def test_ready_made_batches_tell_their_own_size() -> None:
    batches = islice(shuffled_batches(DataLoader(Batches(), batch_size=None), 3, (0,)), 3)
    assert sorted(batch.size for batch in batches) == [1, 2, 3]  # type: ignore[type-var]


@pytest.mark.parametrize("workers", [0, 2])
def test_the_loader_and_its_data_are_left_alone(workers: int) -> None:
    generator = torch.Generator().manual_seed(3)
    dataset = Numbers()
    loader = DataLoader(
        dataset, 5, shuffle=True, num_workers=workers, persistent_workers=workers > 0, generator=generator
    )
    running = iter(loader)
    first = next(running)
    before = generator.get_state(), dataset.reads
    sweeps(loader)
    assert torch.equal(generator.get_state(), before[0])
    assert dataset.reads == before[1]
    assert sorted(torch.cat([first, *running]).tolist()) == list(range(20))


class Stream(IterableDataset[int]):
    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


def test_streams_and_foreign_loaders_cannot_be_read_again() -> None:
    assert can_be_cloned(DataLoader(Numbers()))
    assert not can_be_cloned(DataLoader(Stream()))
    assert not can_be_cloned([1, 2, 3])
