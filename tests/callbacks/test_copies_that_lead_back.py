"""Parts that deepcopy would leave tied to the original: a measurement on them would write into training."""

from __future__ import annotations

import multiprocessing
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_tailindex import TailIndexMonitor

from .training_trace import Net, NoisyData, train

pytestmark = pytest.mark.uncounted


class ByHand(Net):
    """Clears gradients after the step, and not before: what a measurement leaves there is trained with."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def gradient_noise_step(self, batch: Any, batch_idx: int) -> Tensor:
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> None:
        optimizer: Any = self.optimizers()
        self.manual_backward(self.gradient_noise_step(batch, batch_idx))
        optimizer.step()
        optimizer.zero_grad()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.05)


class Scripted(ByHand):
    def __init__(self) -> None:
        super().__init__()
        self.pre = torch.jit.script(nn.Linear(6, 6))

    def gradient_noise_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.head(self.body(self.pre(batch[0]))), batch[1])


class Decoder(nn.Module):
    """Uses the encoder's weight without having it as its own."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = weakref.ref(encoder)
        self.gone = weakref.ref(nn.Linear(1, 1))
        self.bias = nn.Parameter(torch.zeros(6))

    def forward(self, hidden: Tensor) -> Tensor:
        encoder: Any = self.encoder()
        assert self.gone() is None
        return hidden @ encoder.weight + self.bias


class WeaklyTied(ByHand):
    def __init__(self) -> None:
        super().__init__()
        self.pre = nn.Linear(6, 4)
        self.decoder = Decoder(self.pre)

    def gradient_noise_step(self, batch: Any, batch_idx: int) -> Tensor:
        return (self.decoder(self.pre(batch[0]).tanh()) - batch[0]).square().mean()


class Scaled(nn.Parameter):
    """What libraries for manifolds or quantization make of parameters."""

    def doubled(self) -> Tensor:
        return self * 2


class OfAnotherClass(ByHand):
    def __init__(self) -> None:
        super().__init__()
        self.pre = nn.Module()
        self.pre.weight = Scaled(torch.ones(6))

    def gradient_noise_step(self, batch: Any, batch_idx: int) -> Tensor:
        weight: Any = self.pre.weight
        assert isinstance(weight, Scaled)
        return nn.functional.cross_entropy(self.head(self.body(batch[0] * weight.doubled())), batch[1])


class WithAnEvent(WeaklyTied):
    def __init__(self) -> None:
        super().__init__()
        self.event = multiprocessing.Event()


class ScriptedWithALock(Scripted):
    """Has what cannot be copied beside what can, but only in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        self.method = weakref.WeakMethod(self.head.forward)


class ParametrizedWithALock(WeaklyTied):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()
        nn.utils.parametrizations.weight_norm(self.pre)


MODULES: dict[str, Callable[[], LightningModule]] = {
    "TorchScript": Scripted,
    "weak references": WeaklyTied,
    "a class of parameters": OfAnotherClass,
    "an event of several processes": WithAnEvent,
    "TorchScript with a lock": ScriptedWithALock,
    "parametrizations with a lock": ParametrizedWithALock,
}


def loader() -> DataLoader[Any]:
    return DataLoader(NoisyData(), batch_size=6, shuffle=True)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("engine", ["loop", "auto"])
@pytest.mark.parametrize("name", MODULES)
def test_training_is_the_same_bit_for_bit(name: str, engine: Any, tmp_path: Path) -> None:
    without, _ = train(str(tmp_path / "without"), loader, module=MODULES[name])
    watcher = TailIndexMonitor(3, num_minibatches=16, on_error="raise", engine=engine)
    watched, _ = train(str(tmp_path / "with"), loader, [watcher], module=MODULES[name])
    assert without.differences(watched) == []
    assert len(watcher.reports) == 7
    for report in watcher.reports:
        (pre,) = (each for each in report.headline if each.group == "pre")
        assert pre.noise_norm > 0


def test_a_profiler_that_cannot_be_copied_is_shared(tmp_path: Path) -> None:
    watcher = TailIndexMonitor(3, num_minibatches=16, on_error="raise")
    train(str(tmp_path), loader, [watcher], profiler="pytorch")
    assert len(watcher.reports) == 7


class WritesByHand(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        with torch.no_grad():
            self.head.weight.mul_(0.999)
        return super().training_step([batch[0].clone(), batch[1]], batch_idx)


class WritesByData(Net):
    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.head.weight.data.mul_(0.999)
        return super().training_step([batch[0].clone(), batch[1]], batch_idx)


class Itself(nn.BatchNorm1d):
    def __deepcopy__(self, memo: dict[int, object]) -> Itself:
        return self


class HoldsOne(Net):
    def __init__(self) -> None:
        super().__init__()
        self.norm = Itself(6)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step([self.norm(batch[0]), batch[1]], batch_idx)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (WritesByHand, "'head.weight'"),
        (WritesByData, "'head.weight'"),
        (HoldsOne, "'norm.num_batches_tracked'"),
    ],
)
def test_what_cannot_be_kept_apart_is_told(module: Callable[[], LightningModule], name: str, tmp_path: Path) -> None:
    watcher = TailIndexMonitor(3, num_minibatches=16, on_error="raise", engine="loop")
    with pytest.warns(UserWarning, match=f"a measurement wrote to .*{name}.* of the module in training"):
        train(str(tmp_path), loader, [watcher], module=module)
    assert len(watcher.reports) == 7
