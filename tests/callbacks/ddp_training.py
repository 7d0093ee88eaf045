"""Run as a script: trains in two processes with and without the monitor and saves what each of them saw."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lightning_tailindex import SharpnessMonitor, TailIndexMonitor
from lightning_tailindex.callbacks.monitor import Monitor
from tests.callbacks.training_trace import OURS, NaiveMeasurement, Net, NoisyData, Recorder, seed_everything
from tests.callbacks.weight_training import monitors


class FailsOnOneRank(Net):
    """Cannot be measured by the second process, once."""

    def gradient_noise_step(self, batch: Any, batch_idx: int) -> Tensor:
        if self.trainer.global_rank == 1 and self.trainer.global_step == 4:
            raise ValueError("broken on purpose")
        return self.training_step(batch, batch_idx)


class Apart(DDPStrategy):
    """Averages nothing: the processes' weights go ways of their own."""

    def configure_ddp(self) -> None:
        """Leaves out DDP's wrapper, which is what averages gradients."""


def shuffled() -> DataLoader[Any]:
    return DataLoader(NoisyData(80), batch_size=4, shuffle=True)


class Streamed(IterableDataset[Any]):
    """The same samples, of which each worker process has its part."""

    def __iter__(self) -> Iterator[Any]:
        worker, data = get_worker_info(), NoisyData(80)
        part = range(80) if worker is None else range(worker.id, 80, worker.num_workers)
        return (data[i] for i in part)


def workers_of_one_rank() -> DataLoader[Any]:
    return DataLoader(Streamed(), batch_size=4, num_workers=2 if os.environ.get("LOCAL_RANK", "0") == "0" else 0)


def train(
    *measuring: Callback,
    accumulation: int = 1,
    module: Callable[[], Net] = Net,
    data: Callable[[], DataLoader[Any]] = shuffled,
    strategy: type[DDPStrategy] = DDPStrategy,
    max_epochs: int = 2,
) -> dict[str, object]:
    seed_everything()
    net, recorder = module(), Recorder()
    trainer = Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        devices=2,
        strategy=strategy(process_group_backend="gloo"),
        accumulate_grad_batches=accumulation,
        callbacks=[*measuring, recorder],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(net, data())
    return {
        "state": net.state_dict(),
        "batches": recorder.batches,
        "gradients": recorder.gradients,
        "random": torch.get_rng_state(),
        "metrics": {k: v for k, v in trainer.callback_metrics.items() if not k.startswith(OURS)},
        "reports": [
            {**asdict(report), "seconds": 0}
            for callback in measuring
            if isinstance(callback, Monitor)
            for report in callback.reports
        ],
    }


def main() -> None:
    results: dict[object, list[dict[str, object]]] = {
        accumulation: [
            train(accumulation=accumulation),
            train(TailIndexMonitor(every_n_steps=4, num_minibatches=16, on_error="raise"), accumulation=accumulation),
        ]
        for accumulation in (1, 2)
    }
    failing = TailIndexMonitor(every_n_steps=4, num_minibatches=16)
    without = results[1][0]
    results["failing"] = [without, train(failing, module=FailsOnOneRank)]
    results["weights"] = [without, train(*monitors())]
    sharpness = SharpnessMonitor(10, num_minibatches=1, trace_samples=None, on_error="raise")
    noise: list[Callback] = [TailIndexMonitor(10, num_minibatches=16, on_error="raise")]
    results["apart"] = [train(*monitors(), sharpness, *noise, strategy=Apart)]
    of_training = TailIndexMonitor(10, num_minibatches=16, source="training", on_error="raise")
    results["apart of training"] = [train(of_training, strategy=Apart, max_epochs=4)]
    streamed = TailIndexMonitor(4, num_minibatches=16, on_error="raise")
    results["workers of one rank"] = [train(streamed, data=workers_of_one_rank)]
    results["naive"] = [without, train(NaiveMeasurement())]
    torch.save(results, Path(sys.argv[1]) / f"rank{os.environ.get('LOCAL_RANK', '0')}.pt")


if __name__ == "__main__":
    main()
