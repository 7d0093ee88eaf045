"""Training with the monitor leaves bit for bit what training without it leaves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch import callbacks as lightning_callbacks
from lightning.pytorch.callbacks import ModelCheckpoint, StochasticWeightAveraging
from lightning.pytorch.utilities import CombinedLoader
from torch import Tensor
from torch.optim.swa_utils import get_ema_avg_fn
from torch.utils.data import BatchSampler, DataLoader, IterableDataset, RandomSampler, Sampler, WeightedRandomSampler

from lightning_tailindex import TailIndexMonitor

from .training_trace import NaiveMeasurement, Net, NoisyData, Trace, train

pytestmark = pytest.mark.uncounted


class StatefulSampler(Sampler[int]):
    """Starts each epoch where the last one stopped."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.position = 0

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[int]:
        for _ in range(self.size):
            self.position += 7
            yield self.position % self.size


class Stream(IterableDataset):
    """A stream without a length that never gives the same samples twice."""

    def __init__(self) -> None:
        self.reads = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for _ in range(80):
            self.reads += 1
            x = torch.randn(6, generator=torch.Generator().manual_seed(self.reads))
            yield x, torch.tensor(self.reads % 3)


class TupleNet(Net):
    """Takes the batches of two loaders at once."""

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch["a"], batch_idx) + 0.5 * self.head(self.body(batch["b"][0])).square().mean()


def loader(**options: Any) -> Callable[[], DataLoader[Any]]:
    return lambda: DataLoader(NoisyData(), **{"batch_size": 6, "shuffle": True, **options})


def sampled(sampler: Callable[[], Sampler[int]]) -> Callable[[], DataLoader[Any]]:
    return lambda: DataLoader(NoisyData(), batch_size=6, sampler=sampler())


def combined() -> CombinedLoader:
    loaders = {"a": DataLoader(NoisyData(), 6, shuffle=True), "b": DataLoader(NoisyData(20), 4, shuffle=True)}
    return CombinedLoader(loaders, "max_size_cycle")


def stepwise_ema() -> Callback:
    callback: Callback = lightning_callbacks.WeightAveraging(avg_fn=get_ema_avg_fn(0.9))
    return callback


SCENARIOS: dict[str, dict[str, Any]] = {
    "plain": {},
    "accumulation of 4": {"accumulate_grad_batches": 4},
    "gradient clipping": {"gradient_clip_val": 0.05},
    "2 workers": {"loader": loader(num_workers=2)},
    "2 persistent workers": {"loader": loader(num_workers=2, persistent_workers=True)},
    "loader with its own generator": {"loader": lambda: loader(generator=torch.Generator().manual_seed(5))()},
    "fixed order": {"loader": loader(shuffle=False)},
    "stateful sampler": {"loader": sampled(lambda: StatefulSampler(40))},
    "weighted sampler": {"loader": sampled(lambda: WeightedRandomSampler([1.0, 3.0] * 20, 40))},
    "custom batch sampler": {
        "loader": lambda: DataLoader(
            NoisyData(), batch_sampler=type("Own", (BatchSampler,), {})(RandomSampler(range(40)), 6, False)
        )
    },
    "dictionary of loaders": {"loader": combined, "module": TupleNet},
    "reloaded loaders": {"reload_dataloaders_every_n_epochs": 1},
    "bf16-mixed": {"precision": "bf16-mixed"},
    "64-true": {"precision": "64-true"},
    "SGD with momentum": {"module": lambda: Net(lambda p, lr: torch.optim.SGD(p, lr, momentum=0.9))},
    "stochastic weight averaging": {
        "callbacks": lambda: [StochasticWeightAveraging(0.01, swa_epoch_start=1)],
        "max_epochs": 4,
    },
    "limit_train_batches": {"limit_train_batches": 4},
    "overfit_batches": {"overfit_batches": 2, "loader": loader(shuffle=False)},
    "fast_dev_run": {"fast_dev_run": True},
    "a stream without a length": {"loader": lambda: DataLoader(Stream(), batch_size=4)},
}
if hasattr(lightning_callbacks, "WeightAveraging"):  # younger than the oldest supported Lightning
    SCENARIOS["exponential weight averaging"] = {"callbacks": lambda: [stepwise_ema()]}


def monitor(**options: Any) -> TailIndexMonitor:
    settings = {"every_n_steps": 2, "num_minibatches": 16, "full_gradient_batches": None, "on_error": "raise"}
    return TailIndexMonitor(**{**settings, **options})


def run(path: Path, scenario: dict[str, Any], callback: Callback | None) -> tuple[Any, Trainer]:
    options = dict(scenario)
    others = options.pop("callbacks", list)()
    make_loader = options.pop("loader", loader())
    return train(str(path), make_loader, [*others, *([callback] if callback else [])], **options)


@pytest.fixture(scope="module", params=SCENARIOS)
def name(request: pytest.FixtureRequest) -> str:
    """The scenarios, one after the other."""
    return str(request.param)


@pytest.fixture(scope="module")
def without(name: str, tmp_path_factory: pytest.TempPathFactory) -> Trace:
    """What training leaves if nobody measures."""
    return run(tmp_path_factory.mktemp("without"), SCENARIOS[name], None)[0]


def test_training_is_the_same_bit_for_bit(name: str, without: Trace, tmp_path: Path) -> None:
    watcher = monitor()
    watched, _ = run(tmp_path / "with", SCENARIOS[name], watcher)
    assert watcher.reports, "nothing was measured, so nothing was shown"
    assert without.differences(watched) == []


def test_the_comparison_can_fail(name: str, without: Trace, tmp_path: Path) -> None:
    naive, _ = run(tmp_path / "naive", SCENARIOS[name], NaiveMeasurement())
    assert "parameters" in without.differences(naive)


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`, callbacks used to create the checkpoint")
@pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:You're resuming from a checkpoint that ended")
def test_resuming_from_a_checkpoint_in_the_middle(tmp_path: Path) -> None:
    middle = ModelCheckpoint(
        tmp_path / "kept", "middle", every_n_train_steps=10, save_top_k=1, monitor="step", mode="min"
    )
    run(tmp_path / "first", {"callbacks": lambda: [middle], "max_epochs": 2}, monitor())
    resumed = {"ckpt_path": str(tmp_path / "kept" / "middle.ckpt"), "max_epochs": 4}
    without, _ = run(tmp_path / "without", resumed, None)
    watcher = monitor()
    watched, trainer = run(tmp_path / "with", resumed, watcher)
    assert without.differences(watched) == []
    assert watcher.reports[0].step == 0  # from the checkpoint
    assert trainer.global_step > watcher.reports[-1].step >= 10
    naive, _ = run(tmp_path / "naive", resumed, NaiveMeasurement())
    assert "parameters" in without.differences(naive)
