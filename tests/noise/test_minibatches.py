from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

import pytest
import torch
from torch.nn.utils.rnn import pack_sequence

from lightning_tailindex.noise.minibatches import LoaderBatch, Minibatch, SweepPlan, guess_size, plan_minibatches


def endless(sizes: list[int]) -> Iterator[LoaderBatch]:
    """Shuffle after shuffle of batches of the given sizes, each batch its own number."""
    for i in count():
        yield LoaderBatch(i, sizes[i % len(sizes)])


def plan(sizes: list[int], **options: int | None) -> list[Minibatch]:
    settings = {"num_minibatches": 4, "full_gradient_batches": None, "batch_size": 8, **options}
    return list(plan_minibatches(endless(sizes), SweepPlan(sweep_length=len(sizes), **settings)))


def draws(minibatches: list[Minibatch]) -> list[tuple[object, ...]]:
    return [minibatch.batches for minibatch in minibatches if minibatch.is_draw]


def full(minibatches: list[Minibatch]) -> list[tuple[object, ...]]:
    return [minibatch.batches for minibatch in minibatches if minibatch.in_full_gradient]


def test_draws_are_part_of_the_one_sweep() -> None:
    minibatches = plan([8] * 10)
    assert draws(minibatches) == [(0,), (1,), (2,), (3,)]
    assert full(minibatches) == [(i,) for i in range(10)]
    assert len(minibatches) == 10


def test_a_partial_sweep_stops_early() -> None:
    assert len(plan([8] * 10, full_gradient_batches=6)) == 6
    assert len(plan([8] * 10, full_gradient_batches=2)) == 4


def test_an_incomplete_last_minibatch_counts_by_its_size_and_is_no_draw() -> None:
    minibatches = plan([8, 8, 8, 3], num_minibatches=3)
    assert [m.weight for m in minibatches if m.in_full_gradient] == [8, 8, 8, 3]
    assert draws(minibatches) == [(0,), (1,), (2,)]


def test_further_shuffles_follow_where_the_data_is_too_small() -> None:
    minibatches = plan([8, 8, 3], num_minibatches=5)
    assert draws(minibatches) == [(0,), (1,), (3,), (4,), (6,)]
    assert full(minibatches) == [(0,), (1,), (2,)]
    assert [m.sweep for m in minibatches] == [0, 0, 0, 1, 1, 2]


def test_a_minibatch_is_what_an_optimizer_step_consumes() -> None:
    minibatches = plan([8] * 10, accumulation=4, num_minibatches=2)
    assert draws(minibatches) == [(0, 1, 2, 3), (4, 5, 6, 7)]
    assert full(minibatches)[-1] == (8, 9)
    assert [m.weight for m in minibatches] == [32, 32, 16]


def test_where_a_step_consumes_the_whole_sweep_that_is_the_minibatch() -> None:
    assert draws(plan([8, 8, 3], accumulation=7, num_minibatches=2)) == [(0, 1, 2), (3, 4, 5)]
    assert draws(plan([5], num_minibatches=2)) == [(0,), (1,)]


def test_a_sweep_without_a_complete_minibatch_ends() -> None:
    assert draws(plan([5, 5])) == []


def test_sweeps_that_shrink_below_a_minibatch_end() -> None:
    batches = (LoaderBatch(i, 8 if i < 2 else 3) for i in count())
    assert len(list(plan_minibatches(batches, SweepPlan(16, None, 2, batch_size=8)))) == 2


def test_a_stream_that_ends_gives_what_it_has() -> None:
    batches = [LoaderBatch(i) for i in range(3)]
    assert len(list(plan_minibatches(batches, SweepPlan(8, None, 8)))) == 3
    assert list(plan_minibatches([], SweepPlan(8, None, 8))) == []


@pytest.mark.parametrize(
    ("options", "passes"),
    [({}, 10), ({"full_gradient_batches": 2}, 4), ({"full_gradient_batches": 99}, 10), ({"num_minibatches": 50}, 50)],
)
def test_passes_are_known_beforehand(options: dict[str, int], passes: int) -> None:
    settings = {"num_minibatches": 4, "full_gradient_batches": None, **options}
    assert SweepPlan(sweep_length=10, batch_size=8, **settings).num_passes == passes
    assert len(plan([8] * 10, **options)) == passes


@dataclass
class Pair:
    name: str
    x: torch.Tensor


@dataclass(slots=True)
class Slots:
    later: torch.Tensor = field(init=False)
    x: torch.Tensor


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (torch.zeros(4, 2), 4),
        (torch.zeros(()), 1),
        (["text", (torch.zeros(3), torch.zeros(9))], 3),
        (Pair("text", torch.zeros(5)), 5),
        (Slots(torch.zeros(7)), 7),
        ([Slots(torch.zeros(()))], 1),
        ([pack_sequence([torch.zeros(5, 2), torch.zeros(3, 2)]), torch.zeros(2)], 2),
        ("text", None),
        ({"boxes": torch.zeros(0, 4), "image": torch.zeros(6, 3)}, 6),
        ({}, None),
    ],
)
def test_the_size_of_a_batch_is_guessed_from_its_first_tensor(data: object, size: int | None) -> None:
    assert guess_size(data) == size
