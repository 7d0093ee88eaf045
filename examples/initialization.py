"""Initialize deep, narrow ReLU nets for several moments s: what becomes of the signal over depth, and of training.

python examples/initialization.py            # about a minute; writes runs/initialization.png
python examples/initialization.py --quick    # the same in seconds, of few nets and steps
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from data import Images, load_digits
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_tailindex.init import init_module_

try:
    from lightning.pytorch import LightningModule, Trainer, seed_everything
except ModuleNotFoundError:  # Lightning's other name
    from pytorch_lightning import LightningModule, Trainer, seed_everything  # type: ignore[assignment]

# Moments with Okabe and Ito's colours.
LOOKS = {2.0: ("#0072B2", "-"), 1.0: ("#D55E00", "--"), 0.25: ("#009E73", "-.")}


@dataclass(frozen=True)
class Sizes:
    """How much is computed."""

    nets: int
    seeds: int
    steps: int
    signal_depth: int = 40
    depth: int = 20
    width: int = 16


class DeepNet(LightningModule):
    """Many narrow layers. The last line of `__init__` is all that its initialization takes."""

    def __init__(self, sizes: Sizes, s: float) -> None:
        super().__init__()
        self.losses: list[float] = []
        widths = [64] + [sizes.width] * sizes.depth
        hidden = [each for before, width in pairwise(widths) for each in (nn.Linear(before, width), nn.ReLU())]
        self.net = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(sizes.width, 10))
        init_module_(self, s)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        loss = nn.functional.cross_entropy(self.net(images), labels)
        self.losses.append(float(loss.detach()))
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.03)


def signal_sizes(image: Tensor, sizes: Sizes, s: float) -> Tensor:
    """Root mean square of a coordinate behind each layer over that of the image, of shape [nets, depth + 1]."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(*[each for _ in range(sizes.signal_depth) for each in (nn.Linear(64, 64), nn.ReLU())])
    found = torch.empty(sizes.nets, sizes.signal_depth + 1)
    with torch.no_grad():
        for row in found:
            signal = image.flatten()
            row[0] = signal.norm()
            init_module_(net, s, generator=generator)
            for place in range(sizes.signal_depth):
                signal = net[2 * place + 1](net[2 * place](signal))
                row[place + 1] = signal.norm()
    return found / found[:, :1]


def losses(images: Images, sizes: Sizes, s: float) -> Tensor:
    """Training losses, of shape [seeds, steps]."""
    curves = []
    for seed in range(sizes.seeds):
        seed_everything(seed, verbose=False)
        module = DeepNet(sizes, s)
        trainer = Trainer(
            max_steps=sizes.steps,
            accelerator="cpu",
            devices=1,
            gradient_clip_val=1.0,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, DataLoader(images.train, 64, shuffle=True))
        curves.append(module.losses)
    return torch.tensor(curves)


def line(ax: Axes, s: float, x: Tensor, middle: Tensor, low: Tensor, high: Tensor) -> None:
    colour, style = LOOKS[s]
    name = f"s = {s:g}" + (" (He)" if s == 2 else "")
    ax.plot(x, middle, color=colour, linestyle=style, label=name)
    ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)


def draw_typical(ax: Axes, found: dict[float, Tensor], sizes: Sizes) -> None:
    for s, ratios in found.items():
        low, middle, high = ratios.quantile(torch.tensor([0.25, 0.5, 0.75]), dim=0)
        line(ax, s, torch.arange(ratios.shape[1]), middle, low, high)
    ax.set(title="A typical signal shrinks, the slower the smaller s", yscale="log")
    ax.yaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2]))
    ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.set(
        xlabel="layer, each of 64 ReLUs", ylabel=f"norm over the input's\n(median, middle half of {sizes.nets} nets)"
    )


def draw_moments(ax: Axes, found: dict[float, Tensor]) -> None:
    for s, ratios in found.items():
        powers = ratios**s
        mean, error = powers.mean(0), 2 * powers.std(0) / len(powers) ** 0.5
        line(ax, s, torch.arange(ratios.shape[1]), mean, mean - error, mean + error)
    ax.set(title="... while the moment of order s is preserved", ylim=(0.5, 1.5))
    ax.set(xlabel="layer, each of 64 ReLUs", ylabel="mean of (norm over the input's)$^s$\n(± 2 standard errors)")


def draw_training(ax: Axes, curves: dict[float, Tensor], name: str, sizes: Sizes) -> None:
    window = max(1, sizes.steps // 20)
    for s, curve in curves.items():
        smooth = curve.unfold(1, window, 1).mean(2)
        steps = torch.arange(window, sizes.steps + 1)
        line(ax, s, steps, smooth.mean(0), smooth.amin(0), smooth.amax(0))
    ax.set(title=f"Training {sizes.depth} layers of {sizes.width} ReLUs on {name}", xlabel="optimizer step")
    ax.set(ylabel=f"training loss, nats, over {window} steps\n(mean and range of {sizes.seeds} seeds)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few nets, seeds and steps")
    parser.add_argument("--output", type=Path, default=Path("runs/initialization.png"), help="default: %(default)s")
    arguments = parser.parse_args()
    sizes = Sizes(nets=100, seeds=2, steps=30) if arguments.quick else Sizes(nets=1000, seeds=5, steps=1000)
    images = load_digits()
    found = {s: signal_sizes(images.train[0][0], sizes, s) for s in LOOKS}
    curves = {s: losses(images, sizes, s) for s in LOOKS}
    print(f"   s   median norm after {sizes.signal_depth} layers   its moment of order s   last training loss")
    for s, ratios in found.items():
        last = ratios[:, -1]
        loss = curves[s][:, -max(1, sizes.steps // 20) :].mean()
        print(f"{s:4g} {last.median():23.3f} {(last**s).mean():29.3f} {loss:20.3f}")
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    axes = [figure.add_subplot(1, 3, place) for place in (1, 2, 3)]
    draw_typical(axes[0], found, sizes)
    draw_moments(axes[1], found)
    draw_training(axes[2], curves, images.name, sizes)
    for ax in axes:
        ax.title.set_fontsize("medium")
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, title="weights preserve")
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output, dpi=90)
    print(f"The figure is {arguments.output}.")


if __name__ == "__main__":
    main()
