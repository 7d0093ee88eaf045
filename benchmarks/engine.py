"""What a measurement costs, as ratios to the bare forward and backward passes of the same minibatches, in Markdown.

Run ``OMP_NUM_THREADS=2 python benchmarks/engine.py`` on a machine that does nothing else: about eight minutes. All
kinds of measurement are called in turns in one process, each between two rounds of bare passes to compare it with: a
machine that others share changes its speed from one second to the next. ``--quick`` tries whether it runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice

import torch
from lightning.pytorch import LightningModule
from shared import machine, table
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from training_source import seconds_beside_training

from lightning_tailindex.analysis import analyse, resolve_estimators
from lightning_tailindex.functional import group_sum
from lightning_tailindex.noise.combining import combine
from lightning_tailindex.noise.engine import Engine, collect_gradients
from lightning_tailindex.noise.groups import measured_parameters, resolve_grouping
from lightning_tailindex.noise.loaders import shuffled_batches
from lightning_tailindex.noise.minibatches import Minibatch
from lightning_tailindex.noise.observation import NoiseObservation
from lightning_tailindex.noise.pairs import PairRecorder
from lightning_tailindex.noise.processes import Processes

_DRAWS, _FULL, _COORDINATES = 64, 256, 1024  # the callback's defaults
_GROUPING = resolve_grouping("module")
_ESTIMATORS = resolve_estimators("grouped_mle")
_FROM_TRAINING = f"gradients of training, over its {2 * _DRAWS} passes"

Job = Callable[[], object]


class Classifier(LightningModule):
    """A net with its loss."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """The loss of a batch."""
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Plain SGD, for the gradients of training."""
        return torch.optim.SGD(self.parameters(), lr=1e-3)


def lenet() -> nn.Module:
    """Two convolutions and three linear layers for images of 28 by 28."""
    first = [nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)]
    linear = [nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)]
    return nn.Sequential(*first, nn.Flatten(), *linear)


def fully_connected(*widths: int) -> nn.Module:
    """Linear layers with ReLUs between them, for images of 28 by 28."""
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in zip((784, *widths), (*widths, 10), strict=True):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@dataclass(frozen=True)
class Setting:
    """A net and its minibatches."""

    module: Classifier
    batches: list[tuple[Tensor, Tensor]]
    draws: int = _DRAWS

    @classmethod
    def of(cls, net: nn.Module, batch_size: int, draws: int = _DRAWS, full: int = _FULL) -> Setting:
        """Random images; what they show does not matter for the time."""
        rng = torch.Generator().manual_seed(0)
        batches = [
            (torch.randn(batch_size, 1, 28, 28, generator=rng), torch.randint(10, (batch_size,), generator=rng))
            for _ in range(full)
        ]
        return cls(Classifier(net), batches, draws)

    def bare(self) -> None:
        """Forward and backward passes and nothing else."""
        for batch in self.batches:
            for parameter in self.module.parameters():
                parameter.grad = None
            self.module.training_step(batch, 0).backward()

    def reading(self) -> Job:
        """The loading of as many minibatches of a data set in memory, sample by sample, in a shuffled order."""
        data = TensorDataset(*(torch.cat(parts) for parts in zip(*self.batches, strict=True)))
        loader = DataLoader(data, batch_size=len(self.batches[0][1]), shuffle=True)
        return lambda: list(islice(shuffled_batches(loader, len(loader), (0,)), len(loader)))

    def noise(self, engine: Engine, *, every_coordinate: bool = False) -> NoiseObservation:
        """The gradients, gathered."""
        measured = measured_parameters(self.module)
        minibatches = [Minibatch((b,), len(b[1]), i < self.draws, True) for i, b in enumerate(self.batches)]
        recorder = collect_gradients(
            self.module,
            measured,
            _GROUPING,
            minibatches,
            lambda batch: self.module.training_step(batch, 0),  # type: ignore[arg-type]
            num_draws=self.draws,
            max_coordinates=_COORDINATES,
            seed=0,
            engine=engine,
            pairs=PairRecorder(measured, Processes()) if every_coordinate else None,
        )
        return combine(recorder, Processes())

    def measure(self, engine: Engine, *, every_coordinate: bool = False) -> None:
        """A whole measurement, its estimates and surrogates included."""
        analyse(self.noise(engine, every_coordinate=every_coordinate), _ESTIMATORS, step=0, seed=0)

    def estimates(self) -> Job:
        """The estimates alone."""
        noise = self.noise("loop")
        return lambda: analyse(noise, _ESTIMATORS, step=0, seed=0)

    def reference(self) -> None:
        """The published way: every coordinate, flattened, on the host, sums of adjacent coordinates."""
        rows = []
        for batch in self.batches:
            for parameter in self.module.parameters():
                parameter.grad = None
            self.module.training_step(batch, 0).backward()
            rows.append(torch.cat([parameter.grad.flatten() for parameter in self.module.parameters()]).cpu())
        gradients = torch.stack(rows)
        group_sum((gradients - gradients.mean(0)).flatten())

    def from_training(self) -> float:
        """Seconds that the gradients of training take beside training: two for each draw, and the estimates."""
        return seconds_beside_training(self.module, self.batches, self.draws)


def seconds(job: Job) -> float:
    """What one call takes, or what it says that the part of it that matters took."""
    start = time.perf_counter()
    found = job()
    return found if isinstance(found, float) else time.perf_counter() - start


def medians(jobs: dict[str, Job], repetitions: int) -> dict[str, float]:
    """Median seconds of jobs called in turns, after one call of each."""
    turns = [{name: seconds(job) for name, job in jobs.items()} for _ in range(repetitions + 1)]
    return {name: statistics.median(turn[name] for turn in turns[1:]) for name in jobs}


def over(bare: Job, jobs: dict[str, Job], repetitions: int) -> tuple[float, dict[str, float]]:
    """Median seconds of the bare passes, and median ratios of jobs to the mean of those before and after each."""
    for job in (bare, *jobs.values()):
        job()
    rounds, ratios, before = [], {name: list[float]() for name in jobs}, seconds(bare)
    for _ in range(repetitions):
        for name, job in jobs.items():
            own, after = seconds(job), seconds(bare)
            ratios[name].append(2 * own / (before + after))
            rounds.append(after)
            before = after
    return statistics.median(rounds), {name: statistics.median(values) for name, values in ratios.items()}


def engines_table(repetitions: int) -> str:
    """Every kind of measurement on three nets, over the bare passes."""
    nets = {
        "LeNet, b = 64": (lenet(), 64),
        "784-512-512-10, b = 64": (fully_connected(512, 512), 64),
        "784-64-64-10, b = 16": (fully_connected(64, 64), 16),
    }
    columns: dict[str, dict[str, float]] = {}
    for name, (net, batch_size) in nets.items():
        setting = Setting.of(net, batch_size)
        jobs: dict[str, Job] = {
            "loop, gradients only": lambda setting=setting: setting.noise("loop"),
            "loop, whole measurement": lambda setting=setting: setting.measure("loop"),
            "vectorized, gradients only": lambda setting=setting: setting.noise("vectorized"),
            "vectorized, whole measurement": lambda setting=setting: setting.measure("vectorized"),
            "loop, whole measurement, every coordinate": lambda setting=setting: setting.measure(
                "loop", every_coordinate=True
            ),
            "published way": setting.reference,
            "loading of the same minibatches": setting.reading(),
            _FROM_TRAINING: setting.from_training,
        }
        bare, found = over(setting.bare, jobs, repetitions)
        found[_FROM_TRAINING] *= _FULL / (2 * _DRAWS)
        columns[name] = {"bare passes, ms each": 1000 * bare / _FULL, **found}
    rows = [[job, *(f"{column[job]:.2f}" for column in columns.values())] for job in next(iter(columns.values()))]
    return table(["over the bare passes", *columns], rows)


def growth_table(repetitions: int) -> str:
    """A whole measurement by the loop where one thing grows, in milliseconds and over its bare passes."""
    grown = {
        "16 draws of 64": Setting.of(fully_connected(64, 64), 16, 16, 64),
        "64 draws of 64": Setting.of(fully_connected(64, 64), 16, 64, 64),
        "256 draws of 256": Setting.of(fully_connected(64, 64), 16, 256, 256),
        "1024 draws of 1024": Setting.of(fully_connected(64, 64), 16, 1024, 1024),
        "0.1 million parameters": Setting.of(fully_connected(128), 16, 64, 64),
        "1 million parameters": Setting.of(fully_connected(1024, 256), 16, 64, 64),
        "10 million parameters": Setting.of(fully_connected(2560, 2560, 512), 16, 64, 64),
        "2 layers": Setting.of(fully_connected(64), 16, 64, 64),
        "8 layers": Setting.of(fully_connected(*[64] * 7), 16, 64, 64),
        "32 layers": Setting.of(fully_connected(*[64] * 31), 16, 64, 64),
    }
    rows = []
    for name, setting in grown.items():
        jobs: dict[str, Job] = {
            "bare": setting.bare,
            "loop": lambda setting=setting: setting.noise("loop"),
            "estimates": setting.estimates(),
        }
        rows.append([name, *(f"{1000 * median:.0f}" for median in medians(jobs, repetitions).values())])
    return table(["ms", "bare passes", "gradients gathered", "estimates"], rows)


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repetition")
    repetitions = 1 if parser.parse_args().quick else 7
    torch.manual_seed(0)
    print(f"# What a measurement costs\n\n{machine()}\n")
    print(f"64 draws among 256 minibatches, 1024 coordinates a group.\n\n{engines_table(repetitions)}\n")
    print(f"How it grows, 784-64-64-10 where nothing else is said, b = 16.\n\n{growth_table(repetitions)}")


if __name__ == "__main__":
    main()
