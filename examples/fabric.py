"""The tail index of the gradient noise in a training loop of one's own, here with Lightning Fabric.

The loop draws some minibatches beside the one that it trains on, now and then; the module, its gradients and all random
states stay as they are. Without Fabric it is the same: leave out the lines with ``fabric``.

    python examples/fabric.py --max-steps 401
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import torch
from lightning.fabric import Fabric
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_tailindex import gradient_noise
from lightning_tailindex.functional import grouped_mle
from lightning_tailindex.functional.surrogate import gaussian_surrogate

DRAWS = 64


def digits(batch_size: int, seed: int) -> DataLoader[Any]:
    """Scikit-learn's digits, 8 by 8 pixels, in an order of its own: measuring takes no random number from training."""
    images, labels = load_digits(return_X_y=True)
    data = TensorDataset(torch.as_tensor(images, dtype=torch.float32) / 16, torch.as_tensor(labels))
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(data, batch_size=batch_size, shuffle=True, drop_last=True, generator=generator)


def forever(loader: Iterable[Any]) -> Iterator[Any]:
    """Epoch after epoch."""
    while True:
        yield from loader


def loss_of(module: nn.Module, batch: Any) -> Tensor:
    """The loss that is trained and measured."""
    return nn.functional.cross_entropy(module(batch[0]), batch[1])


def train(max_steps: int, every_n_steps: int) -> tuple[nn.Module, list[tuple[int, float, float]]]:
    """Trains, and measures at every so many-th step.

    Args:
        max_steps: Steps in all.
        every_n_steps: Steps between measurements.

    Returns:
        The trained net; for each measurement, the step, the whole model's tail index, and that of its surrogate.
    """
    fabric = Fabric(accelerator="cpu", devices=1)
    fabric.seed_everything(0, verbose=False)
    net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
    module, optimizer = fabric.setup(net, torch.optim.SGD(net.parameters(), lr=0.1))
    batches, extra = (forever(fabric.setup_dataloaders(digits(16, seed))) for seed in (0, 1))
    found = []
    for step in range(max_steps):
        if step % every_n_steps == 0:
            noise = gradient_noise(module, loss_of, list(islice(extra, DRAWS)))["whole_model"]
            alpha, gaussian = (grouped_mle(x, pooled=True).alpha.item() for x in (noise, gaussian_surrogate(noise)))
            fabric.print(f"step {step}: tail index {alpha:.2f}, of its Gaussian surrogate {gaussian:.2f}")
            found.append((step, alpha, gaussian))
        optimizer.zero_grad()
        fabric.backward(loss_of(module, next(batches)))
        optimizer.step()
    return net, found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--max-steps", type=int, default=1201)
    parser.add_argument("--every-n-steps", type=int, default=200)
    options = parser.parse_args()
    train(options.max_steps, options.every_n_steps)
