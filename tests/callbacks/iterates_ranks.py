"""Run as a script: trains in two processes whose weights are watched, and saves what each of them saw."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from lightning_tailindex import IterateTailIndexMonitor

EXAMPLES = Path(__file__).parents[2] / "examples"
sys.path.insert(0, str(EXAMPLES))
EXAMPLE = runpy.run_path(str(EXAMPLES / "local_sgd.py"))
LocalSGD = EXAMPLE["LocalSGD"]


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 3)
        self.ends: list[Tensor] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self.head(self.body(batch[0]).relu()), batch[1])

    def on_train_batch_end(self, *rest: Any) -> None:
        self.ends.append(torch.cat([p.detach().flatten() for p in self.parameters()]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class FailsOnOneRank(Net):
    """Has nothing to follow in the second process, once."""

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        super().optimizer_step(*arguments, **options)
        if self.global_rank == 1:
            self.requires_grad_(self.global_step != 16)

    def on_train_batch_start(self, *rest: Any) -> None:
        self.requires_grad_(True)


class Name:
    """Of a parameter group: cannot be told in the second process after step 32."""

    def __init__(self, net: LightningModule) -> None:
        self.net = net

    def __str__(self) -> str:
        if (self.net.global_rank, self.net.global_step) == (1, 32):
            raise MemoryError("broken on purpose")
        return "part"


class FailsLate(Net):
    """Fails in the second process once the window has been exchanged."""

    def configure_optimizers(self) -> torch.optim.Optimizer:
        parts: list[Any] = [{"params": part.parameters(), "name": Name(self)} for part in (self.body, self.head)]
        return torch.optim.SGD(parts, lr=0.1)


def fit(strategy: DDPStrategy, *monitors: IterateTailIndexMonitor, module: type[Net] = Net) -> dict[str, Any]:
    torch.manual_seed(0)
    net, generator = module(), torch.Generator().manual_seed(0)
    x, y = torch.randn(400, 6, generator=generator), torch.randint(3, (400,), generator=generator)
    trainer = Trainer(
        max_steps=48,
        accelerator="cpu",
        devices=2,
        strategy=strategy,
        callbacks=list(monitors),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(net, DataLoader(TensorDataset(x, y), 4, shuffle=True))
    return {
        "ends": torch.stack(net.ends),
        "reports": [{**asdict(report), "seconds": 0} for monitor in monitors for report in monitor.reports],
        "warnings": [str(each.message) for each in caught if "IterateTailIndexMonitor" in str(each.message)],
    }


def monitor(**options: Any) -> IterateTailIndexMonitor:
    return IterateTailIndexMonitor(window=16, **{"burn_in": 0, **options})


def example() -> str:
    """What the example prints, run by its own command line in the processes that there are."""
    arguments, shown = sys.argv, io.StringIO()
    sys.argv = ["local_sgd.py", *["--max-steps", "96", "--burn-in", "32", "--window", "64", "--period", "8"]]
    with contextlib.redirect_stdout(shown):
        EXAMPLE["main"]()
    sys.argv = arguments
    return shown.getvalue()


def main() -> None:
    ddp = lambda: DDPStrategy(process_group_backend="gloo")  # noqa: E731
    results: dict[str, Any] = {
        "without": fit(ddp()),
        "same": fit(ddp(), monitor(on_error="raise")),
        "settling": fit(ddp(), monitor(burn_in=None, on_error="raise")),
        "failing": fit(ddp(), monitor(), module=FailsOnOneRank),
        "failing late": fit(ddp(), monitor(), module=FailsLate),
        "local without": fit(LocalSGD(4)),
        "each": fit(LocalSGD(4), monitor(replicas="each", on_error="raise")),
        "average": fit(LocalSGD(4), monitor(replicas="average", on_error="raise")),
        "not the same": fit(LocalSGD(4), monitor()),
        "example": example(),
    }
    torch.save(results, Path(sys.argv[1]) / f"rank{os.environ.get('LOCAL_RANK', '0')}.pt")


if __name__ == "__main__":
    main()
