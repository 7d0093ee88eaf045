"""Draw every figure of `lightning_tailindex.figures` from trainings on the digits of scikit-learn.

python examples/figures.py            # some ten minutes; writes runs/figures/*.png
python examples/figures.py --quick    # the same in seconds, of few steps
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import torch
from data import Images, load_digits
from digits import ConvNet
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.data import DataLoader, Subset

from lightning_tailindex import (
    IterateTailIndexMonitor,
    Report,
    SharpnessMonitor,
    TailIndexMonitor,
    WeightSpectrumMonitor,
    figures,
    gradient_noise,
)

try:
    from lightning.pytorch import LightningModule, Trainer, seed_everything
except ModuleNotFoundError:  # Lightning's other name
    from pytorch_lightning import LightningModule, Trainer, seed_everything  # type: ignore[assignment]

Drawn = dict[str, tuple[Figure, Any]]


class TanhNet(LightningModule):
    """A small net for gradient descent with all of the data."""

    def __init__(self, step_size: float) -> None:
        super().__init__()
        self.step_size = step_size
        layers = [nn.Flatten(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 10)]
        self.net = nn.Sequential(*layers)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss: Tensor = (self.net(images) - nn.functional.one_hot(labels, 10)).square().sum(1).mean() / 2
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.step_size)


def fit(module: LightningModule, data: Any, batch_size: int, steps: int, *monitors: Any) -> None:
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=1,
        callbacks=list(monitors),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(data, batch_size, shuffle=batch_size < len(data)))


def one_run(images: Images, steps: int) -> Drawn:
    """What there is to see of a single run, and of the noise at its end."""
    seed_everything(0, verbose=False)
    module = ConvNet(8, 0.1)
    noise = TailIndexMonitor(steps // 6, full_gradient_batches=None)
    iterates = IterateTailIndexMonitor(window=max(steps // 10, 16), burn_in=0)
    spectra = WeightSpectrumMonitor()
    fit(module, images.train, 16, steps + 1, noise, iterates, spectra)

    def loss(module: ConvNet, batch: Any) -> Tensor:
        return nn.functional.cross_entropy(module(batch[0]), batch[1])

    reports, draws = noise.reports, gradient_noise(module, loss, DataLoader(images.train, 16))
    return {
        "noise_density": figures.noise_density(reports[-1].whole_model),
        "noise_qq": figures.noise_qq(reports[-1].whole_model),
        "coordinate_alphas": figures.coordinate_alphas(reports, "fc1"),
        "alpha_over_steps": figures.alpha_over_steps(reports),
        "alpha_heatmap": figures.alpha_heatmap(reports),
        "alpha_by_minibatch_size": figures.alpha_by_minibatch_size(reports[2], "fc1"),
        "noise_norms": figures.noise_norms(draws["fc1"]),
        "iterate_alphas": figures.iterate_alphas(iterates.reports),
        "weight_spectrum": figures.weight_spectrum(spectra.reports[-1], "fc1.weight"),
    }


def several_runs(images: Images, steps: int) -> Drawn:
    """The noise of runs that differ in their step sizes and minibatch sizes."""
    settings = list(product((16, 64), (0.01, 0.03, 0.1, 0.3)))
    runs: list[list[Report]] = []
    for batch_size, step_size in settings:
        seed_everything(0, verbose=False)
        noise = TailIndexMonitor(steps // 6, full_gradient_batches=None)
        fit(ConvNet(8, step_size), images.train, batch_size, steps + 1, noise)
        runs.append(noise.reports)
    sizes, step_sizes = zip(*settings, strict=True)
    return {"alpha_across_runs": figures.alpha_across_runs(step_sizes, runs, "step size", rest=sizes)}


def gradient_descent(images: Images, steps: int) -> Drawn:
    """The sharpness of a training without noise."""
    seed_everything(0, verbose=False)
    sharpness = SharpnessMonitor(max(steps // 40, 10), num_eigenvalues=2, num_minibatches=None)
    data = Subset(images.train, range(500))
    fit(TanhNet(0.2), data, len(data), steps, sharpness)
    return {"sharpness_over_steps": figures.sharpness_over_steps(sharpness.reports)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few steps")
    parser.add_argument("--output", type=Path, default=Path("runs/figures"), help="folder (default: %(default)s)")
    arguments = parser.parse_args()
    images, steps = load_digits(), 60 if arguments.quick else 1800
    arguments.output.mkdir(parents=True, exist_ok=True)
    pictures = one_run(images, steps) | several_runs(images, steps // 2) | gradient_descent(images, steps)
    for name, (figure, _) in pictures.items():
        figure.savefig(arguments.output / f"{name}.png", dpi=80)
    print(f"{len(pictures)} figures are in {arguments.output}.")


if __name__ == "__main__":
    main()
