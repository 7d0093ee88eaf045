"""The experiments of the papers, one YAML file for each, by LightningCLI.

python examples/papers/run.py fit --config examples/papers/config/1901.06053.yaml
python examples/papers/run.py fit --config examples/papers/config/galkin_2021_lenet.yaml --data.batch_size 150
python examples/papers/run.py fit --config examples/papers/config/1901.06053.yaml --data.name mnist --data.data_dir DIR
python examples/papers/run.py fit --config examples/papers/config/1901.06053.yaml --config \
    examples/papers/config/quick.yaml
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

sys.path.insert(0, str(Path(__file__).parents[1]))  # the examples share their images

from cifar10 import load_cifar10
from data import Images, load_digits, load_idx
from nets import Classifier
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_tailindex import IterateTailIndexMonitor, TailIndexMonitor

try:
    from lightning.pytorch import LightningDataModule
    from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
except ModuleNotFoundError:  # Lightning's other name
    from pytorch_lightning import LightningDataModule  # type: ignore[assignment]
    from pytorch_lightning.cli import LightningArgumentParser, LightningCLI  # type: ignore[assignment]

__all__ = ["CLI", "Pictures", "main"]

Name = Literal["digits", "mnist", "cifar10"]


class Pictures(LightningDataModule):
    """Labelled images, their pixels normalized by mean and standard deviation of those to train on.

    Args:
        name: "digits", which come with scikit-learn, "mnist" or "cifar10", whose files have to be in data_dir.
        data_dir: Folder with MNIST's IDX files, or with CIFAR-10's archive for Python.
        batch_size: Images in a minibatch.
        seed: Seed of the split into images to train on and to test with, where the data bring none; it is that of
            seed_everything.
    """

    def __init__(
        self, name: Name = "digits", data_dir: str | None = None, batch_size: int = 50, seed: int | None = 0
    ) -> None:
        super().__init__()
        if name != "digits" and data_dir is None:
            raise ValueError(f"data_dir must be the folder of the files of {name}, got None.")
        images = _load(name, data_dir or "", seed or 0)
        self.train, self.test = _normalized(images.train, images.train), _normalized(images.test, images.train)
        self.shape = tuple(self.train[0][0].shape)
        self.batch_size = batch_size
        self.save_hyperparameters({"data": images.name, "batch_size": batch_size, "seed": seed})

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.train, self.batch_size, shuffle=True, drop_last=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.test, 500)


def _load(name: Name, folder: str, seed: int) -> Images:
    if name == "cifar10":
        return Images("CIFAR-10", *load_cifar10(folder))
    return load_idx(folder, seed) if name == "mnist" else load_digits(seed)


def _normalized(images: TensorDataset, by: TensorDataset) -> TensorDataset:
    """Subtracts the mean of each channel and divides by its standard deviation."""
    pixels = by.tensors[0].transpose(0, 1).flatten(1)
    mean, deviation = (value[:, None, None] for value in (pixels.mean(1), pixels.std(1)))
    return TensorDataset((images.tensors[0] - mean) / deviation, images.tensors[1])


class CLI(LightningCLI):
    """Measures the noise and the iterates of every run, and lets the data say what the net takes in."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        parser.add_lightning_class_args(TailIndexMonitor, "noise")
        parser.add_lightning_class_args(IterateTailIndexMonitor, "iterates")
        parser.link_arguments("seed_everything", "data.seed")
        parser.link_arguments("data.shape", "model.init_args.shape", apply_on="instantiate")

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except (ValueError, FileNotFoundError) as error:
            self.parser.error(str(error))


def main(arguments: list[str] | None = None) -> None:
    CLI(Classifier, Pictures, subclass_mode_model=True, seed_everything_default=0, args=arguments)


if __name__ == "__main__":
    main()
