"""Train a small convolutional net and watch how heavy the tails of its gradient noise become.

python examples/digits.py                        # digits that ship inside scikit-learn
python examples/digits.py --data-dir DIRECTORY   # MNIST, in the IDX files in which it is distributed
"""

from __future__ import annotations

import argparse
import sys

import torch
from data import Images, load_digits, load_idx
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_tailindex import Report, TailIndexMonitor

try:
    from lightning.pytorch import LightningModule, Trainer, seed_everything
    from lightning.pytorch.loggers import TensorBoardLogger
except ModuleNotFoundError:  # Lightning's other name
    from pytorch_lightning import LightningModule, Trainer, seed_everything  # type: ignore[assignment]
    from pytorch_lightning.loggers import TensorBoardLogger  # type: ignore[assignment]


class ConvNet(LightningModule):
    """Two convolutions and two linear layers: a module like any other, it knows nothing of the monitor."""

    def __init__(self, side: int, step_size: float) -> None:
        super().__init__()
        self.save_hyperparameters()  # so that `lightning-tailindex report` knows in what runs differ
        self.step_size = step_size
        self.conv1 = nn.Conv2d(1, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 16, 3, padding=1)
        self.fc1 = nn.Linear(16 * (side // 4) ** 2, 84)
        self.fc2 = nn.Linear(84, 10)

    def forward(self, images: Tensor) -> Tensor:
        hidden = nn.functional.max_pool2d(self.conv1(images).relu(), 2)
        hidden = nn.functional.max_pool2d(self.conv2(hidden).relu(), 2)
        logits: Tensor = self.fc2(self.fc1(hidden.flatten(1)).relu())
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = nn.functional.cross_entropy(self(images), labels)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        accuracy = (self(images).argmax(dim=1) == labels).float().mean()
        self.log("test/accuracy", accuracy, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.step_size)


def train(images: Images, arguments: argparse.Namespace) -> tuple[TailIndexMonitor, str]:
    seed_everything(arguments.seed)
    # The one line that measures. A sweep over this small training set gives the exact full gradient.
    monitor = TailIndexMonitor(every_n_steps=arguments.every_n_steps, full_gradient_batches=None)
    trainer = Trainer(
        max_steps=arguments.max_steps,
        accelerator="auto",
        devices=1,
        callbacks=[monitor],
        logger=TensorBoardLogger("runs", name=images.name),
        enable_model_summary=False,
        enable_progress_bar=sys.stdout.isatty(),  # a log file needs no bar
        log_every_n_steps=10,
    )
    trainer.fit(
        ConvNet(images.train[0][0].shape[-1], arguments.step_size),
        DataLoader(images.train, arguments.batch_size, shuffle=True),
        DataLoader(images.test, 500),
    )
    return monitor, str(trainer.log_dir)


def table(reports: list[Report]) -> str:
    """Shows α of each group beside the number that Gaussian noise of the same covariance gives."""
    groups = [measurement.group for measurement in reports[0].measurements]
    lines = [" step " + "".join(f"{group:>15}" for group in groups)]
    for report in reports:
        cells = (f"{m.alpha:8.2f} ({m.gaussian_alpha:.2f})" for m in report.measurements)
        lines.append(f"{report.step:5d} " + "".join(cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder with MNIST's IDX files; the digits of scikit-learn without it")
    parser.add_argument("--batch-size", type=int, default=16, help="images in a minibatch (default: %(default)s)")
    parser.add_argument("--step-size", type=float, default=0.1, help="learning rate of SGD (default: %(default)s)")
    parser.add_argument("--max-steps", type=int, default=1801, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--every-n-steps", type=int, default=300, help="steps between measurements")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    images = load_idx(arguments.data_dir) if arguments.data_dir else load_digits()
    monitor, folder = train(images, arguments)
    print(f"\nTail index of the gradient noise on {images.name}, its Gaussian surrogate's in brackets:\n")
    print(table(monitor.reports))
    seconds = sum(report.seconds for report in monitor.reports)
    print(f"\n{len(monitor.reports)} measurements took {seconds:.1f} s. The run lies in {folder}; to look at it:")
    print("  tensorboard --logdir runs")


if __name__ == "__main__":
    main()
