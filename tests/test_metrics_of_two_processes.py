"""Two real processes over gloo hold the metric of all draws, also where one of them has none."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from lightning_tailindex import TailIndex

from .forked import forked
from .functional.samples import generator, noise

ESTIMATORS = ("grouped_mle", "log_moment")


def draws(seed: int) -> Tensor:
    return noise(1.5, 200, 3, generator(seed)).float()


def updated(metric: TailIndex, seeds: range | list[int]) -> TailIndex:
    for seed in seeds:
        metric.update(draws(seed))
    return metric


def work(rank: int, folder: str) -> None:
    """Updates both metrics with every second part of the draws, or, in the second process, one of them with none."""
    store = dist.FileStore(f"{folder}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=timedelta(seconds=60))
    found = {}
    for estimator in ESTIMATORS:
        for idle in (False, True):
            seeds = range(0 if idle and rank else rank, 0 if idle and rank else 6, 2)
            metric = updated(TailIndex(3, estimator), seeds)
            alone = updated(TailIndex(3, estimator, sync_on_compute=False), seeds)
            computed = None if idle else metric.compute()
            found[estimator, idle] = (metric.estimate(), metric.estimate(), computed, alone.estimate().alpha)
    torch.save(found, f"{folder}/rank{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[tuple[str, bool], tuple]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    forked()  # says what the processes that `mp` starts are forked from
    mp.start_processes(work, (str(folder),), nprocs=2, start_method="forkserver")  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("idle", [False, True])
def test_two_processes_are_one(ranks: list[dict[tuple[str, bool], tuple]], estimator: str, idle: bool) -> None:
    one = updated(TailIndex(3, estimator), [0, 2, 4] if idle else [0, 2, 4, 1, 3, 5])
    for rank in ranks:
        for synced in rank[estimator, idle][:2]:  # the second time as the first: nothing was left gathered
            assert synced.alpha == one.compute()
            assert torch.equal(synced.scale, one.estimate().scale)
        assert idle or rank[estimator, idle][2] == one.compute()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_each_process_by_itself_is_not(ranks: list[dict[tuple[str, bool], tuple]], estimator: str) -> None:
    first, second = (rank[estimator, False][3] for rank in ranks)
    assert first == updated(TailIndex(3, estimator), [0, 2, 4]).compute()
    assert first != second
    assert ranks[1][estimator, True][3].isnan()
