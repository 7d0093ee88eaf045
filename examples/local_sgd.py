"""Train by local SGD in two processes: each steps by its own gradients, and now and then all take their average.

python examples/local_sgd.py --period 50

The processes' weights differ, so the monitor is asked for each of them and for their average.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch
from data import load_digits
from torch import Tensor, nn
from torch.distributed.algorithms.model_averaging.averagers import PeriodicModelAverager
from torch.utils.data import DataLoader

from lightning_tailindex import IterateReport, IterateTailIndexMonitor

try:
    from lightning.pytorch import LightningModule, Trainer, seed_everything
    from lightning.pytorch.strategies import DDPStrategy
except ModuleNotFoundError:  # Lightning's other name
    from pytorch_lightning import LightningModule, Trainer, seed_everything  # type: ignore[assignment]
    from pytorch_lightning.strategies import DDPStrategy  # type: ignore[assignment]


class LocalSGD(DDPStrategy):
    """Averages weights every so many steps, where DDP averages gradients at each.

    Args:
        period: Optimizer steps between averages; 0 for none.
    """

    def __init__(self, period: int) -> None:
        super().__init__(process_group_backend="gloo")
        self.period = period

    def configure_ddp(self) -> None:
        """Leaves out DDP's wrapper, which is what averages gradients."""
        self.averager = PeriodicModelAverager(period=self.period) if self.period else None

    def optimizer_step(
        self,
        optimizer: torch.optim.Optimizer,
        closure: Callable[[], Any],
        model: LightningModule | nn.Module | None = None,
        **kwargs: Any,
    ) -> Any:
        output = super().optimizer_step(optimizer, closure, model, **kwargs)
        if self.averager is not None:
            assert self.lightning_module is not None
            self.averager.average_parameters(self.lightning_module.parameters())
        return output


class Net(LightningModule):
    """Two linear layers: a module like any other."""

    def __init__(self, step_size: float) -> None:
        super().__init__()
        self.step_size = step_size
        self.fc1, self.fc2 = nn.Linear(64, 64), nn.Linear(64, 10)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        images, labels = batch
        return nn.functional.cross_entropy(self.fc2(self.fc1(images.flatten(1)).relu()), labels)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.step_size)


def table(report: IterateReport) -> str:
    """Shows α of the deviations and of the ergodic averages, of the processes' average and of each of them."""
    lines = [" " * 21 + "".join(f"{m.group:>14}" for m in report.measurements)]
    for who, prefix in (("average", ""), ("worker 0", "worker_0_"), ("worker 1", "worker_1_")):
        cells = (f"{m.of(f'{prefix}deviation').alpha:14.2f}" for m in report.measurements)
        lines.append(f"{who + ', deviations':21}" + "".join(cells))
    for who, what in (("average", "ergodic_average"), ("worker 0", "worker_0"), ("worker 1", "worker_1")):
        lines.append(f"{who + ', means':21}" + "".join(f"{m.of(what).alpha:14.2f}" for m in report.measurements))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--period", type=int, default=50, help="steps between averages, 0: none (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=8, help="images in a minibatch of one process")
    parser.add_argument("--step-size", type=float, default=0.1, help="learning rate of SGD (default: %(default)s)")
    parser.add_argument("--burn-in", type=int, default=500, help="steps before the first window")
    parser.add_argument("--window", type=int, default=500, help="steps in a window (default: %(default)s)")
    parser.add_argument("--max-steps", type=int, default=1500, help="optimizer steps (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    seed_everything(arguments.seed, verbose=False)  # the same first weights in both processes
    monitor = IterateTailIndexMonitor(window=arguments.window, burn_in=arguments.burn_in, replicas="each")
    trainer = Trainer(
        max_steps=arguments.max_steps,
        max_epochs=-1,
        accelerator="cpu",
        devices=2,
        strategy=LocalSGD(arguments.period),
        callbacks=[monitor],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(Net(arguments.step_size), DataLoader(load_digits().train, arguments.batch_size, shuffle=True))
    if trainer.is_global_zero:
        for report in monitor.reports:
            (optimizer,) = report.parameter_groups
            print(f"\nsteps {report.step - report.window} to {report.step}, η {optimizer.step_size:g}, ", end="")
            print(f"{report.minibatch_size:.3g} samples a step, {report.num_repetitions} ergodic averages so far")
            print(table(report))


if __name__ == "__main__":
    main()
