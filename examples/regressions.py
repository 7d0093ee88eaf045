"""Many linear regressions on Gaussian data as one LightningModule, trained by plain SGD."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from lightning_tailindex import IterateTailIndexMonitor, TailIndexMonitor
from lightning_tailindex.functional import hill
from lightning_tailindex.records import IterateEstimate
from lightning_tailindex.theory import least_squares

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
except ModuleNotFoundError:  # Lightning's other name
    from pytorch_lightning import Callback, LightningModule, Trainer  # type: ignore[assignment]

SOLUTION = 1.0  # each coordinate of the weights behind the labels
_OTHER_SEEDS = 1_000_000  # of streams that measurements read


@dataclass(frozen=True)
class Setting:
    """All that the tail index of the iterates depends on."""

    step_size: float = 1.2
    batch_size: int = 5
    dim: int = 2
    scale: float = 1.0  # standard deviation of the inputs

    @property
    def lyapunov_exponent(self) -> float:
        return least_squares.lyapunov_exponent(self.step_size, self.batch_size, self.dim, self.scale)

    @property
    def tail_index(self) -> float:
        """NaN where there is no stationary law."""
        return least_squares.tail_index(self.step_size, self.batch_size, self.dim, self.scale)


@dataclass(frozen=True)
class Sizes:
    """How much is computed."""

    replicas: int
    tail: int  # of them are Hill's
    fewest_steps: int
    noise_draws: int


@dataclass(frozen=True)
class NoiseAlpha:
    """The tail index of the noise of so many minibatches averaged, the weights held."""

    num_minibatches: int
    alpha: float
    low: float
    high: float
    gaussian_alpha: float


@dataclass(frozen=True)
class Trained:
    """What became of one setting."""

    setting: Setting
    distances: Tensor  # of each replica's weights from the solution, [replicas]
    alpha: float  # Hill's, of these
    low: float
    high: float
    noise: list[NoiseAlpha]
    averages: IterateEstimate | None  # of the iterates' ergodic averages, from inside the training


class GaussianMinibatches(IterableDataset[tuple[Tensor, Tensor]]):
    """A stream of new samples, a minibatch of its own for each replica; iterated again, the same stream again."""

    def __init__(self, setting: Setting, replicas: int, seed: int) -> None:
        self.setting, self.replicas, self.seed = setting, replicas, seed

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed)
        shape = self.replicas, self.setting.batch_size
        while True:
            inputs = self.setting.scale * torch.randn(*shape, self.setting.dim, generator=generator)
            yield inputs, SOLUTION * inputs.sum(dim=2) + torch.randn(*shape, generator=generator)


class Regressions(LightningModule):
    """Replicas of a linear regression. Their losses are summed, so each follows the gradient of its own."""

    def __init__(self, setting: Setting, replicas: int) -> None:
        super().__init__()
        self.step_size = setting.step_size
        self.weight = nn.Parameter(torch.zeros(replicas, setting.dim))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, labels = batch
        predictions = (inputs @ self.weight[..., None])[..., 0]
        return (predictions - labels).square().mean(dim=1).sum() / 2

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.step_size)


def quiet() -> None:
    """Dozens of trainings need not introduce themselves each, nor ask for worker processes that nothing would feed."""
    for name in ("lightning.pytorch", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", ".*does not have many workers")


def train(setting: Setting, sizes: Sizes, seed: int, monitored: bool) -> Trained:
    """Trains the replicas, and estimates the tail index of where they are at the end.

    Monitored, the noise is measured one step before. Its minibatches are of a stream of their own: those that training
    just saw made the weights what they are. And the last iterates of each replica are averaged.
    """
    if setting.lyapunov_exponent >= 0:
        raise ValueError(f"train needs a Lyapunov exponent < 0, got {setting.lyapunov_exponent:.3g} of {setting}.")
    steps = max(sizes.fewest_steps, math.ceil(25 / -setting.lyapunov_exponent))
    noise = TailIndexMonitor(
        every_n_steps=steps - 1,
        num_minibatches=sizes.noise_draws,
        full_gradient_batches=sizes.noise_draws,
        group_by="model",
        dataloader=GaussianMinibatches(setting, sizes.replicas, _OTHER_SEEDS + seed),
        on_error="raise",
    )
    window = sizes.fewest_steps // 2
    iterates = IterateTailIndexMonitor(window, burn_in=steps - window, group_by="model", on_error="raise")
    callbacks: list[Callback] = [noise, iterates] if monitored else []
    module = Regressions(setting, sizes.replicas)
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(GaussianMinibatches(setting, sizes.replicas, seed), batch_size=None))
    distances = (module.weight.detach() - SOLUTION).norm(dim=1)
    found = hill(distances, k=sizes.tail)
    averages = iterates.reports[-1].measurements[-1].of("ergodic_average") if monitored else None
    alpha, low, high = float(found.alpha), float(found.low), float(found.high)
    return Trained(setting, distances, alpha, low, high, noise_alphas(noise), averages)


def noise_alphas(monitor: TailIndexMonitor) -> list[NoiseAlpha]:
    """Of single minibatches and of averages, from the last report; empty where nothing was measured."""
    if not monitor.reports:
        return []
    whole = monitor.reports[-1].whole_model
    single = NoiseAlpha(1, whole.alpha, whole.low, whole.high, whole.gaussian_alpha)
    averages = (NoiseAlpha(a.num_minibatches, a.alpha, a.low, a.high, a.gaussian_alpha) for a in whole.aggregated)
    return [single, *averages]
