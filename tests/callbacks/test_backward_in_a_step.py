"""Training steps that call ``backward`` or ``zero_grad`` themselves: their gradients are measured as training's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_tailindex import TailIndexMonitor

from .sharp import fit, samples, watch

pytestmark = pytest.mark.uncounted

Act = Callable[[LightningModule, Tensor], object]


def _nothing(module: LightningModule, loss: Tensor) -> None:
    """The control."""


def _backward(module: LightningModule, loss: Tensor) -> None:
    loss.backward(retain_graph=True)  # type: ignore[no-untyped-call]


def _to_none(module: LightningModule, loss: Tensor) -> None:
    module.zero_grad(set_to_none=True)


def _to_zero(module: LightningModule, loss: Tensor) -> None:
    module.zero_grad(set_to_none=False)


def _of_optimizer(module: LightningModule, loss: Tensor) -> None:
    module.optimizers().zero_grad()  # type: ignore[union-attr]


def _attack(module: LightningModule, loss: Tensor) -> None:
    _backward(module, loss)
    _of_optimizer(module, loss)


ACTS: dict[str, Act] = {
    "backward": _backward,
    "zero_grad to None": _to_none,
    "zero_grad to 0": _to_zero,
    "an optimizer's zero_grad": _of_optimizer,
    "backward, zero_grad": _attack,
}
every_act = pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)


class Net(LightningModule):
    """Does something to gradients before it computes its loss, and stays where it is."""

    def __init__(self, act: Act = _nothing) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
        self.act = act

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = nn.functional.cross_entropy(self.net(batch[0]), batch[1])
        self.act(self, loss * 2)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.0)


class ByHand(Net):
    """Measured by a step that begins where a step by hand does."""

    def __init__(self, act: Act = _nothing) -> None:
        super().__init__(act)
        self.automatic_optimization = False

    def gradient_noise_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx)

    def training_step(self, batch: list[Tensor], batch_idx: int) -> None:  # type: ignore[override]
        self.optimizers().step()  # type: ignore[union-attr]


class Gradients(Callback):
    """Keeps what the optimizer gets."""

    def __init__(self) -> None:
        self.rows: list[Tensor] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self.rows.append(torch.cat([p.grad.flatten() for p in pl_module.parameters() if p.grad is not None]))


def monitor(**options: Any) -> TailIndexMonitor:
    settings = {"every_n_steps": 100, "num_minibatches": 16, "full_gradient_batches": None, "on_error": "raise"}
    return TailIndexMonitor(**{**settings, "figures": None, **options})


def data() -> DataLoader[Any]:
    """More minibatches than there are draws."""
    return DataLoader(samples(160), 4)


def norms(callback: TailIndexMonitor) -> tuple[float, float]:
    whole = callback.reports[0].whole_model
    return whole.gradient_norm, whole.noise_norm


@every_act
@pytest.mark.parametrize("engine", ["auto", "loop"])
def test_a_step_that_attacks_its_gradients_is_measured_as_one_that_does_not(act: Act, engine: str) -> None:
    expected, found, training = monitor(engine=engine), monitor(engine=engine), Gradients()
    fit(Net(), expected, data=data())
    fit(Net(act), found, training, data=data())
    assert norms(found) == pytest.approx(norms(expected), rel=1e-4)
    assert norms(found)[0] == pytest.approx(float(torch.stack(training.rows).mean(0).norm()), rel=1e-4)


@every_act
def test_of_minibatches_that_are_accumulated_it_is_the_gradient_that_the_optimizer_gets(act: Act) -> None:
    same = TensorDataset(*(column[:1].expand(192, *column.shape[1:]) for column in samples().tensors))
    seen: dict[Act, float] = {}
    for each in (_nothing, act):
        found, training = monitor(), Gradients()
        fit(Net(each), found, training, data=DataLoader(same, 2), accumulate_grad_batches=3)
        seen[each] = norms(found)[0]
        assert seen[each] == pytest.approx(float(training.rows[0].norm()), rel=1e-4)
    assert seen[act] != pytest.approx(seen[_nothing], rel=0.1)  # the control: training, too, is another one


@every_act
def test_a_step_of_manual_optimization_may_begin_by_zeroing_gradients(act: Act) -> None:
    expected, found = monitor(engine="loop"), monitor(engine="loop")
    fit(ByHand(), expected, data=data())
    fit(ByHand(act), found, data=data())
    assert norms(found) == pytest.approx(norms(expected), rel=1e-4)


@every_act
def test_the_gradients_of_training_are_what_they_are(act: Act) -> None:
    found, expected = (monitor(source="training", every_n_steps=1) for _ in range(2))
    fit(Net(act), found, data=data())
    fit(Net(), expected, data=data())
    assert norms(found) == pytest.approx(norms(expected), rel=1e-4)


@every_act
@pytest.mark.parametrize("module", [Net, ByHand])
def test_the_sharpness_is_that_of_the_loss_alone(act: Act, module: Callable[[Act], Net]) -> None:
    expected, found = watch(), watch()
    fit(module(_nothing), expected)
    fit(module(act), found)
    assert found.reports[0].eigenvalues == pytest.approx(expected.reports[0].eigenvalues, rel=1e-3)
    assert found.reports[0].trace == pytest.approx(expected.reports[0].trace, rel=1e-3)
    assert found.reports[0].note == expected.reports[0].note
