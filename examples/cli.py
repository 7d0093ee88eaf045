"""The net of digits.py, trained and measured as YAML files and the command line say, by LightningCLI.

python examples/cli.py fit --config examples/config/digits.yaml
python examples/cli.py fit --config examples/config/nested.yaml --trainer.max_steps=601
python examples/cli.py fit --config examples/config/nested.yaml --print_config
python examples/cli.py fit --trainer.callbacks.help=TailIndexMonitor
"""

from __future__ import annotations

from data import load_digits, load_idx
from digits import ConvNet
from torch import Tensor
from torch.utils.data import DataLoader

import lightning_tailindex  # noqa: F401 - from here on the monitor goes by its bare name

try:
    from lightning.pytorch import LightningDataModule
    from lightning.pytorch.cli import LightningCLI
except ModuleNotFoundError:  # Lightning's other name
    from pytorch_lightning import LightningDataModule  # type: ignore[assignment]
    from pytorch_lightning.cli import LightningCLI  # type: ignore[assignment]


class Digits(LightningDataModule):
    """Scikit-learn's digits, 8 by 8 pixels, or MNIST, 28 by 28.

    Args:
        data_dir: Folder with MNIST's IDX files; None for the digits of scikit-learn.
        batch_size: Images in a minibatch.
    """

    def __init__(self, data_dir: str | None = None, batch_size: int = 16) -> None:
        super().__init__()
        self.images = load_idx(data_dir) if data_dir else load_digits()
        self.batch_size = batch_size

    def train_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.images.train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[tuple[Tensor, ...]]:
        return DataLoader(self.images.test, 500)


class CLI(LightningCLI):
    """Ends without a traceback where a value is out of its range, as LightningCLI does where it is of another type."""

    def instantiate_classes(self) -> None:
        try:
            super().instantiate_classes()
        except ValueError as error:
            self.parser.error(str(error))


if __name__ == "__main__":
    CLI(ConvNet, Digits, seed_everything_default=0)
