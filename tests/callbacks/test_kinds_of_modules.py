"""Small real modules of different kinds and precisions: training is the same bit for bit, and is measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

from lightning_tailindex import TailIndexMonitor

from .training_trace import Net, NoisyData, Trace, mixed_half, train

pytestmark = pytest.mark.uncounted


class Classifier(Net):
    """A body of some kind under Net's dropout, metrics and logging."""

    def features(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step([self.features(batch[0]), batch[1]], batch_idx)


class Convolutional(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout2d(0.1), nn.Flatten()
        )
        self.out = nn.utils.parametrizations.weight_norm(nn.Linear(16, 6))

    def features(self, x: Tensor) -> Tensor:
        out: Tensor = self.out(self.layers(torch.einsum("bi,bj->bij", x, x)[:, None]))
        return out


class Recurrent(Classifier):
    """Carries its hidden state from batch to batch."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = nn.LSTM(1, 6, num_layers=2, dropout=0.2, batch_first=True)
        self.hidden: Tensor | None = None

    def features(self, x: Tensor) -> Tensor:
        states, _ = self.cell(x[..., None])
        last: Tensor = states[:, -1].clone()
        carried = last if self.hidden is None else last + 0.1 * self.hidden
        self.hidden = last.mean(0).detach()
        return carried


class Transformer(Classifier):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(16, 6)
        self.encoder = nn.TransformerEncoderLayer(6, 2, 12, dropout=0.1, batch_first=True)
        self.tied = nn.Linear(6, 16, bias=False)
        self.tied.weight = self.embed.weight

    def features(self, x: Tensor) -> Tensor:
        tokens = (x.float() * 4 + 8).clamp(0, 15).long()
        return self.tied(self.encoder(self.embed(tokens))).mean(1)[:, :6]


class OfSets(Classifier):
    """Sums over the neighbours in a random graph on the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.message = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 6))

    def features(self, x: Tensor) -> Tensor:
        source, target = torch.randint(len(x), (2, 20))
        messages = self.message(torch.cat([x[source], x[target]], 1))
        return x + torch.zeros_like(x).index_add(0, target, messages)


class Adversarial(LightningModule):
    """Two optimizers, stepped by hand; the generator's loss is the one that is measured."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 6))
        self.critic = nn.utils.spectral_norm(nn.Linear(6, 1))

    def gradient_noise_step(self, batch: Any, batch_idx: int) -> Tensor:
        fake = self.generator(torch.randn(len(batch[0]), 3))
        return nn.functional.softplus(-self.critic(fake)).mean()

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        first, second = self.optimizers()  # type: ignore[misc, attr-defined]
        fake = self.generator(torch.randn(len(batch[0]), 3)).detach()
        real, made = self.critic(batch[0]), self.critic(fake)
        loss = nn.functional.softplus(-real).mean() + nn.functional.softplus(made).mean()
        self.critic.zero_grad()
        self.manual_backward(loss)
        second.step()
        self.generator.zero_grad()
        self.manual_backward(self.gradient_noise_step(batch, batch_idx))
        first.step()
        self.log("critic", loss, batch_size=len(batch[0]))

    def configure_optimizers(self) -> Any:
        parts = (self.generator, self.critic)
        return [torch.optim.Adam(part.parameters(), lr=0.01) for part in parts], []


class Alternating(Net):
    """Two optimizers for the two halves of one loss."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def gradient_noise_step(self, batch: Any, batch_idx: int) -> Tensor:
        return Net.training_step(self, batch, batch_idx)

    def training_step(self, batch: Any, batch_idx: int) -> None:  # type: ignore[override]
        loss = Net.training_step(self, batch, batch_idx)
        chosen = self.optimizers()[batch_idx % 2]  # type: ignore[index]
        chosen.zero_grad()
        self.manual_backward(loss)
        chosen.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.Adam(self.body.parameters(), 0.01), torch.optim.SGD(self.head.parameters(), 0.1)], []


class Checkpointed(Net):
    """Computes its activations twice."""

    is_reentrant = False

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Dropout(0.1))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x = batch[0].clone().requires_grad_()
        x = checkpoint(self.first, x, use_reentrant=self.is_reentrant)
        return super().training_step([x, batch[1]], batch_idx)


class CheckpointedReentrantly(Checkpointed):
    is_reentrant = True


class Compiled(Classifier):
    def __init__(self, dynamic: bool | None) -> None:
        super().__init__()
        self.extra = torch.compile(nn.Sequential(nn.Linear(6, 6), nn.Tanh()), dynamic=dynamic)

    def features(self, x: Tensor) -> Tensor:
        out: Tensor = self.extra(x).clone()
        return out


KINDS: dict[str, Callable[[], LightningModule]] = {
    "convolutional": Convolutional,
    "recurrent": Recurrent,
    "transformer": Transformer,
    "sets": OfSets,
    "adversarial": Adversarial,
    "two optimizers": Alternating,
    "checkpointing": Checkpointed,
    "reentrant checkpointing": CheckpointedReentrantly,
}


class Naive(Callback):
    """The control: calls training's own module."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        extra = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(next(iter(loader()))))
        with trainer.precision_plugin.train_step_context():
            getattr(pl_module, "gradient_noise_step", pl_module.training_step)(extra, 0)


def loader() -> DataLoader[Any]:
    return DataLoader(NoisyData(), batch_size=6, shuffle=True)


def run(path: Path, module: Callable[[], LightningModule], *callbacks: Callback, **options: Any) -> Trace:
    made = {name: make() for name, make in options.items() if name == "plugins"}
    return train(str(path), loader, callbacks, module=module, **{"max_epochs": 2, **options, **made})[0]


def check(path: Path, module: Callable[[], LightningModule], **options: Any) -> TailIndexMonitor:
    """Compares a run with one that nobody watched, and with one that a careless callback watched."""
    watcher = TailIndexMonitor(every_n_steps=6, num_minibatches=16, group_by="model", on_error="raise")
    without = run(path / "without", module, **options)
    assert without.differences(run(path / "with", module, watcher, **options)) == []
    assert "parameters" in without.differences(run(path / "naive", module, Naive(), **options))
    assert [report.step for report in watcher.reports] == [0, 6, 12]
    assert all(math.isfinite(report.whole_model.alpha) for report in watcher.reports)
    return watcher


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated", "ignore:.*spectral_norm.* is deprecated")
@pytest.mark.parametrize("kind", KINDS)
def test_training_is_the_same_bit_for_bit(kind: str, tmp_path: Path) -> None:
    check(tmp_path, KINDS[kind])


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-mixed", "16-mixed", "bf16-true"])
def test_training_is_the_same_in_every_precision(precision: str, tmp_path: Path) -> None:
    # asked for 16-mixed by name, Lightning computes in bfloat16 on a CPU
    options = {"plugins": lambda: [mixed_half()]} if precision == "16-mixed" else {"precision": precision}
    check(tmp_path, Net, **options)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch.compile's own
@pytest.mark.parametrize("dynamic", [None, False])
def test_a_compiled_submodule_is_measured(dynamic: bool | None, tmp_path: Path) -> None:
    try:
        torch.compile(nn.Linear(2, 2))(torch.zeros(1, 2)).sum().backward()
    except Exception as error:
        pytest.skip(f"torch.compile does not work here: {type(error).__name__}")
    torch._dynamo.reset()
    check(tmp_path, lambda: Compiled(dynamic))
