"""Minibatches whose noise lies out, found again in the data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, Sampler, TensorDataset

from lightning_tailindex import Report, TailIndexMonitor
from lightning_tailindex.figures import noise_norms
from lightning_tailindex.records import from_plain, to_plain

ODD = (37, 101)


class Mean(LightningModule):
    """Its gradient is the weight minus the mean of a minibatch."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(30))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return (self.weight - batch[0]).square().sum(1).mean() / 2

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def data() -> Tensor:
    x = torch.randn(160, 30, generator=torch.Generator().manual_seed(0))
    x[list(ODD)] += 100
    return x


class Stream(IterableDataset[Any]):
    def __iter__(self) -> Any:
        return iter((row,) for row in data())


def report(path: Path, loader: Any, accumulate: int = 1, **options: Any) -> Report:
    monitor = TailIndexMonitor(every_n_steps=100, num_minibatches=16, on_error="raise", **options)
    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = Trainer(
        default_root_dir=path,
        accelerator="cpu",
        max_steps=33,
        accumulate_grad_batches=accumulate,
        enable_model_summary=False,
        callbacks=[monitor],
        **quiet,
    )
    trainer.fit(Mean(), loader)
    return monitor.reports[0]


@pytest.mark.parametrize(("batch_size", "accumulate"), [(10, 1), (5, 2)])
def test_the_largest_draws_are_those_of_the_odd_samples(batch_size: int, accumulate: int, tmp_path: Path) -> None:
    found = report(tmp_path, DataLoader(TensorDataset(data()), batch_size, shuffle=True), accumulate)
    assert len(found.draw_norms) == 16
    assert len(found.largest_draws) == 8
    largest = {i for each in found.largest_draws[:2] for i in each.samples}
    assert set(ODD) <= largest
    assert all(len(each.samples) == 10 for each in found.largest_draws)
    norms = [found.draw_norms[each.draw] for each in found.largest_draws]
    assert norms == sorted(found.draw_norms, reverse=True)[:8]
    assert norms[0] > 5 * sorted(found.draw_norms)[8]
    samples = list(found.largest_draws[0].samples)
    noise = data().mean(0) - data()[samples].mean(0)
    assert noise.norm().item() == pytest.approx(norms[0], rel=1e-5)
    _, ax = noise_norms(found)
    told = ", ".join(map(str, samples[:3]))
    assert ax.texts[0].get_text() == str(found.largest_draws[0].draw)
    legend = ax.get_legend()
    assert legend is not None
    assert f"{found.largest_draws[0].draw}: {told}, …" in legend.get_texts()[-1].get_text()


class Order(Sampler[Any]):
    """The same order again and again, named by numbers that need not be Python's own."""

    def __init__(self, order: Any) -> None:
        self.order = order

    def __iter__(self) -> Iterator[Any]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)


@pytest.mark.parametrize("kind", [list, np.asarray, torch.tensor])
def test_samples_are_numbers_whatever_the_sampler_names_them_by(kind: Any, tmp_path: Path) -> None:
    order = torch.randperm(160, generator=torch.Generator().manual_seed(0)).tolist()
    found = report(tmp_path, DataLoader(TensorDataset(data()), 10, sampler=Order(kind(order))))
    assert len(found.largest_draws) == 8
    for each in found.largest_draws:
        noise = data().mean(0) - data()[list(each.samples)].mean(0)
        assert noise.norm().item() == pytest.approx(found.draw_norms[each.draw], rel=1e-5)
    assert all(type(i) is int for each in found.largest_draws for i in each.samples)
    assert from_plain(Report, to_plain(found)) == found


def test_they_come_back_from_a_checkpoint(tmp_path: Path) -> None:
    found = report(tmp_path, DataLoader(TensorDataset(data()), 10, shuffle=True))
    assert from_plain(Report, to_plain(found)) == found


def test_where_nobody_knows_the_samples_there_are_norms_only(tmp_path: Path) -> None:
    for found in (
        report(tmp_path, DataLoader(Stream(), 5)),
        report(tmp_path, DataLoader(TensorDataset(data()), 10, shuffle=True), source="training"),
    ):
        assert len(found.draw_norms) == 16
        assert found.largest_draws == ()
