from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_tailindex import Report, TailIndexMonitor
from lightning_tailindex.distributions import SymmetricStable

from .training_trace import mixed_half


class Regression(LightningModule):
    """Least squares on data with heavy-tailed residuals, so that the noise has heavy tails from the first step on."""

    def __init__(self, lr: float = 1e-4) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(200))
        self.lr = lr

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        return (x @ self.weight - y).square().mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def data() -> DataLoader[Any]:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 200, generator=rng)
    u = torch.rand(4000, generator=rng) - 0.5
    y = u.sign() * ((1 - 2 * u.abs()) ** (-1 / 1.3) - 1)  # tails of index 1.3
    return DataLoader(TensorDataset(x, y), batch_size=8, shuffle=True)


def train(
    path: Path, module: LightningModule | None = None, steps: int = 300, *, loader: Any = None, **options: Any
) -> Any:
    seed_everything(0)
    own = {"default_root_dir": path, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    module = module or Regression()
    Trainer(max_steps=steps, **own, **quiet, **options).fit(module, loader or data())
    return module


def reports(
    path: Path, steps: int = 300, lr: float = 1e-4, trainer: dict[str, Any] | None = None, **arguments: Any
) -> list[Report]:
    monitor = TailIndexMonitor(every_n_steps=100, max_coordinates=None, on_error="raise", **arguments)
    train(path, Regression(lr), steps, callbacks=[monitor], **(trainer or {}))
    return monitor.reports


def test_the_start_says_that_it_costs_no_passes_and_when_it_begins(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        reports(tmp_path, steps=1, source="training", num_minibatches=16)
    assert "the gradients of 32 steps of training in pairs, as soon as these are seen; no extra passes." in caplog.text


@pytest.fixture(scope="module")
def by_source(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Report], list[Report]]:
    """The last eight reports of one run from the gradients of training, and from extra minibatches."""
    path = tmp_path_factory.mktemp("long")
    return reports(path, 1001, source="training")[-8:], reports(path, 1001, source="extra")[-8:]


def test_agrees_with_extra_minibatches_of_the_same_run(by_source: tuple[list[Report], list[Report]]) -> None:
    own, extra = by_source
    assert [report.step for report in own] == [report.step for report in extra]
    pairs = [(a.measurements[-1], b.measurements[-1]) for a, b in zip(own, extra, strict=True)]
    means = [sum(pair[i].alpha for pair in pairs) / len(pairs) for i in (0, 1)]
    assert means[0] == pytest.approx(means[1], abs=0.2)
    for a, b in pairs:
        assert a.num_draws == b.num_draws == 64
        assert a.low < b.high
        assert b.low < a.high
        assert a.alpha < 1.8 < a.gaussian_alpha
    assert own[-1].minibatch_size == extra[-1].minibatch_size == 8
    assert own[-1].num_full_minibatches == 0


def test_the_gradients_of_training_in_pairs(by_source: tuple[list[Report], list[Report]]) -> None:
    pairs = [(a.whole_model, b.whole_model) for a, b in zip(*by_source, strict=True)]
    assert {a.estimator for pair in pairs for a in pair} == {"sequential_mle"}
    means = [sum(pair[i].alpha for pair in pairs) / len(pairs) for i in (0, 1)]
    assert means[0] == pytest.approx(means[1], abs=0.2)
    assert all(a.alpha < 1.8 < a.gaussian_alpha for a, _ in pairs)
    scales = [sum(pair[i].scale for pair in pairs) for i in (0, 1)]
    assert scales[0] == pytest.approx(scales[1], rel=0.25)


def test_measures_as_soon_as_enough_steps_were_seen_and_then_as_scheduled(tmp_path: Path) -> None:
    assert [report.step for report in reports(tmp_path, source="training", num_minibatches=16)] == [32, 100, 200]
    monitor = TailIndexMonitor(source="training", num_minibatches=16)
    train(tmp_path, steps=100, callbacks=[monitor])
    assert [report.step for report in monitor.reports] == [32, 64, 96]  # by default, windows one after the other


def test_training_is_bit_for_bit_the_same(tmp_path: Path) -> None:
    with_it = train(tmp_path, callbacks=[TailIndexMonitor(every_n_steps=50, source="training", num_minibatches=16)])
    assert torch.equal(with_it.weight, train(tmp_path).weight)
    assert not torch.equal(with_it.weight, train(tmp_path, steps=299).weight)  # the comparison can fail


def test_gradients_are_taken_before_they_are_clipped(tmp_path: Path) -> None:
    plain, clipped = (
        reports(tmp_path, 150, lr=0.0, source="training", trainer={"gradient_clip_val": value})[-1].measurements[-1]
        for value in (None, 1e-3)
    )
    assert clipped.noise_norm == plain.noise_norm > 1e-2
    assert clipped.alpha == plain.alpha


def test_gradients_are_unscaled_under_mixed_precision(tmp_path: Path) -> None:
    plugin = mixed_half(init_scale=2.0**8)
    mixed = {"plugins": [plugin]}
    (found,), (expected,) = (reports(tmp_path, 130, source="training", trainer=trainer) for trainer in (mixed, None))
    assert plugin.scaler is not None
    assert plugin.scaler.get_scale() == 2**8  # what they would be too large by
    assert found.whole_model.scale == pytest.approx(expected.whole_model.scale, rel=0.05)
    assert found.whole_model.gradient_norm == pytest.approx(expected.whole_model.gradient_norm, rel=0.05)


def test_a_step_consumes_what_is_accumulated(tmp_path: Path) -> None:
    accumulated = reports(tmp_path, 120, source="training", num_minibatches=16, trainer={"accumulate_grad_batches": 4})
    assert accumulated[-1].minibatch_size == 32
    assert [report.step for report in accumulated] == [32, 100]


def test_several_optimizers_and_contradicting_arguments_are_refused(tmp_path: Path) -> None:
    class Two(Regression):
        automatic_optimization = False

        def gradient_noise_step(self, batch: Any, batch_idx: int) -> Tensor:
            return self.training_step(batch, batch_idx)

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.parameters(), lr=0.1), torch.optim.SGD(self.parameters(), lr=0.1)]

    with pytest.raises(MisconfigurationException, match='source="training" needs one optimizer, got 2'):
        train(tmp_path, Two(), callbacks=[TailIndexMonitor(source="training")])
    with pytest.raises(ValueError, match=r"noise_unit must be \"step\" and dataloader None, got 'loader' and None"):
        TailIndexMonitor(source="training", noise_unit="loader")
    with pytest.raises(ValueError, match="source must be 'extra' or 'training', got 'both'"):
        TailIndexMonitor(source="both")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="engine must be 'auto' or 'loop' or 'vectorized', got 'fast'"):
        TailIndexMonitor(engine="fast")  # type: ignore[arg-type]


class Lookup(LightningModule):
    """Its gradient is the sample."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(500))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return (batch[0].mean(0) * self.weight).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-6)


def test_pairs_with_an_exact_zero_are_left_out_as_half_a_difference(tmp_path: Path) -> None:
    rng = torch.Generator().manual_seed(0)
    gradients = torch.randn(400, 500, generator=rng) * (torch.rand(400, 500, generator=rng) > 0.5)
    monitor = TailIndexMonitor(every_n_steps=200, source="training", figures=None)
    train(tmp_path, Lookup(), 200, loader=DataLoader(TensorDataset(gradients), batch_size=1), callbacks=[monitor])
    whole = monitor.reports[-1].whole_model
    assert whole.high == 2  # half differences are of a mixture of scales, whose interval ends at 1.985
    assert whole.zero_share == pytest.approx(0.75, abs=0.03)
    assert whole.noise_norm == pytest.approx((500 * 0.5) ** 0.5, rel=0.03)  # that of whole pairs would be 11.2


class InTurn(Lookup):
    """Every other step uses other weights."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return (batch[0].mean(0) * self.weight)[self.global_step % 2 :: 2].sum()


def test_weights_of_every_other_step_are_told_of(tmp_path: Path) -> None:
    rows = torch.randn(64, 500, generator=torch.Generator().manual_seed(0))
    monitor = TailIndexMonitor(every_n_steps=32, num_minibatches=16, source="training", figures=None, on_error="raise")
    train(tmp_path, InTurn(), 40, loader=DataLoader(TensorDataset(rows), batch_size=1), callbacks=[monitor])
    whole = monitor.reports[0].whole_model
    assert whole.alpha != whole.alpha
    assert whole.note.startswith("one of the two gradients of each pair of steps is exactly 0")


class Opaque:
    """A batch whose size nobody knows."""

    def __init__(self, batch: Any) -> None:
        self.batch = batch


class OfOpaque(Regression):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch.batch, batch_idx)


@pytest.mark.parametrize("source", ["extra", "training"])
def test_a_size_that_nobody_knows_is_none(source: Any, tmp_path: Path) -> None:
    batches: Any = [Opaque(batch) for batch in data()]
    opaque = DataLoader(batches, batch_size=None, collate_fn=lambda batch: batch)
    for module, loader, size in ((OfOpaque(), opaque, 0), (Regression(), data(), 8)):
        monitor = TailIndexMonitor(every_n_steps=40, num_minibatches=16, source=source, on_error="raise", figures=None)
        train(tmp_path, module, 80, loader=loader, callbacks=[monitor])
        assert {report.minibatch_size for report in monitor.reports} == {size}


def test_steps_of_several_epochs_share_data(tmp_path: Path) -> None:
    monitor = TailIndexMonitor(every_n_steps=32, num_minibatches=16, source="training", figures=None)
    batches: Any = [batch for batch, _ in zip(data(), range(40), strict=False)]
    train(tmp_path, steps=65, loader=DataLoader(batches, batch_size=None), callbacks=[monitor])
    first, second = monitor.reports[:2]
    assert first.note == ""
    assert second.note == "draws may share data: their steps are of several epochs"
    assert "mean of training's own" in monitor.logged.setup(first)["full gradient"]


class Given(LightningModule):
    """Its gradient is its batch, whatever the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(300))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return (self.weight * batch[0].mean(0)).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=1e-12)


@pytest.mark.parametrize("max_coordinates", [1024, None])
def test_the_scale_is_that_of_draws_not_of_their_differences(max_coordinates: int | None, tmp_path: Path) -> None:
    torch.manual_seed(0)
    x = SymmetricStable(torch.tensor(1.0)).sample((600, 300))
    monitor = TailIndexMonitor(
        512, source="training", num_minibatches=256, max_coordinates=max_coordinates, on_error="raise"
    )
    train(tmp_path, Given(), 513, callbacks=[monitor], loader=DataLoader(TensorDataset(x), batch_size=1, shuffle=True))
    found = [m for m in monitor.reports[-1].measurements if m.group == "whole_model"]
    assert [m.scale for m in found] == pytest.approx([1.0] * len(found), rel=0.05)
    assert found[0].alpha == pytest.approx(1.0, abs=0.02)


def test_the_scale_by_an_estimate_above_two_is_that_of_gaussian_draws(tmp_path: Path) -> None:
    torch.manual_seed(0)
    loader = DataLoader(TensorDataset(torch.randn(600, 300)), batch_size=1, shuffle=True)
    scales = {}
    for source, steps in (("extra", 1), ("training", 129)):
        monitor = TailIndexMonitor(128, source=source, num_minibatches=64, estimators="hill", on_error="raise")
        train(tmp_path, Given(), steps, callbacks=[monitor], loader=loader)
        (found,) = [m for m in monitor.reports[0].measurements if m.group == "whole_model"]
        assert found.alpha > 2
        scales[source] = found.scale
    assert scales["training"] == pytest.approx(scales["extra"], rel=0.05)
