"""The nets of the papers, of any size."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

try:
    from lightning.pytorch import LightningModule
except ModuleNotFoundError:  # Lightning's other name
    from pytorch_lightning import LightningModule  # type: ignore[assignment]

__all__ = ["Classifier", "FullyConnected", "LeNet", "linear_hinge"]

Loss = Literal["cross_entropy", "linear_hinge"]

_CLASSES = 10  # of digits, MNIST and CIFAR-10 alike
_SMALL = 16  # pixels on a side, below which LeNet's second convolution would leave nothing


def linear_hinge(logits: Tensor, labels: Tensor) -> Tensor:
    """Averages max(0, 1 - y z) over samples and classes, y = 1 for the right class and -1 for all others.

    References:
        Şimşekli, Sagun, Gürbüzbalaban, A Tail-Index Analysis of Stochastic Gradient Noise in Deep Neural Networks,
        ICML 2019, whose code calls it so.
    """
    signs = 2 * nn.functional.one_hot(labels, logits.shape[1]).to(logits) - 1
    return (1 - signs * logits).relu().mean()


class Classifier(LightningModule):
    """Trains a net by plain SGD, and logs the loss of the minibatches and, beside it, that of the test images.

    Args:
        net: From images to logits.
        loss: "cross_entropy" or "linear_hinge".
        step_size: Learning rate.
    """

    def __init__(self, net: nn.Sequential, loss: Loss, step_size: float) -> None:
        super().__init__()
        # The layers are attributes of their own, so that groups are called fc1 and not net.fc1.
        for name, layer in net.named_children():
            self.add_module(name, layer)
        self.loss = linear_hinge if loss == "linear_hinge" else nn.functional.cross_entropy
        self.step_size = step_size

    def forward(self, images: Tensor) -> Tensor:
        for layer in self.children():
            images = layer(images)
        return images

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = self.loss(self(images), labels)
        self.log("train/loss", loss)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        images, labels = batch
        logits = self(images)
        self.log("test/loss", self.loss(logits, labels))
        self.log("test/accuracy", (logits.argmax(dim=1) == labels).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.step_size)


class FullyConnected(Classifier):
    """Linear layers with ReLU between them.

    Args:
        shape: Channels, height and width of an image; the data say it.
        depth: Linear layers, the last one included, at least 2.
        width: Units in each hidden layer.
        bias: Whether layers have biases; those of the papers' code have none.
        loss: "cross_entropy" or "linear_hinge".
        step_size: Learning rate.
    """

    def __init__(
        self,
        shape: tuple[int, int, int] = (1, 8, 8),
        depth: int = 3,
        width: int = 100,
        bias: bool = False,
        loss: Loss = "cross_entropy",
        step_size: float = 0.1,
    ) -> None:
        if depth < 2 or width < 1:
            raise ValueError(f"FullyConnected needs depth >= 2 and width >= 1, got depth={depth}, width={width}.")
        channels, height, side = shape
        sizes = [channels * height * side, *[width] * (depth - 1), _CLASSES]
        net = nn.Sequential()
        net.add_module("flatten", nn.Flatten())
        for place in range(1, depth + 1):
            net.add_module(f"fc{place}", nn.Linear(sizes[place - 1], sizes[place], bias=bias))
            if place < depth:
                net.add_module(f"relu{place}", nn.ReLU())
        super().__init__(net, loss, step_size)
        self.save_hyperparameters(ignore=["shape"])


class LeNet(Classifier):
    """Two convolutions of 6 and 16 filters and two linear layers, of 400 and 84 inputs for the images of MNIST.

    The term paper names "2 linear layers with 400 and 84 as hidden dimensions": 400 is what the second pooling leaves
    of 28 x 28 pixels. Images of 8 x 8 pixels are padded there and leave 64.

    Args:
        shape: Channels, height and width of an image; the data say it.
        loss: "cross_entropy" or "linear_hinge".
        step_size: Learning rate.
    """

    def __init__(
        self, shape: tuple[int, int, int] = (1, 8, 8), loss: Loss = "cross_entropy", step_size: float = 0.1
    ) -> None:
        channels, height, width = shape
        padding = 2 if min(height, width) < _SMALL else 0
        left = [(side // 2 + 2 * padding - 4) // 2 for side in (height, width)]
        net = nn.Sequential()
        net.add_module("conv1", nn.Conv2d(channels, 6, 5, padding=2))
        net.add_module("relu1", nn.ReLU())
        net.add_module("pool1", nn.MaxPool2d(2))
        net.add_module("conv2", nn.Conv2d(6, 16, 5, padding=padding))
        net.add_module("relu2", nn.ReLU())
        net.add_module("pool2", nn.MaxPool2d(2))
        net.add_module("flatten", nn.Flatten())
        net.add_module("fc1", nn.Linear(16 * left[0] * left[1], 84))
        net.add_module("relu3", nn.ReLU())
        net.add_module("fc2", nn.Linear(84, _CLASSES))
        super().__init__(net, loss, step_size)
        self.save_hyperparameters(ignore=["shape"])
