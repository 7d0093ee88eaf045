"""Run as a script: measures the sharpness in two processes and saves what each of them saw."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import TQDMProgressBar
from lightning.pytorch.callbacks.progress.tqdm_progress import Tqdm
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_tailindex import SharpnessMonitor
from tests.callbacks.sharp import Classifier, fit, samples, watch
from tests.callbacks.training_trace import NaiveMeasurement, Recorder, seed_everything


class FailsOnOneRank(Classifier):
    """Cannot be measured by one of two processes: the leader at step 1, the other at step 2."""

    def gradient_noise_step(self, batch: Any, batch_idx: int) -> Tensor:
        if (self.trainer.global_rank, self.trainer.global_step) in {(0, 1), (1, 2)}:
            raise ValueError("broken on purpose")
        return self.training_step(batch, batch_idx)


class BrokenTqdm(Tqdm):
    """Can be made and not be moved, as where standard output is closed."""

    failed = 0

    def update(self, n: float | None = 1) -> bool | None:
        if self.desc.startswith("Sharpness"):
            BrokenTqdm.failed += 1
            raise OSError("no terminal")
        return super().update(n)


class BrokenBar(TQDMProgressBar):
    def init_train_tqdm(self) -> Any:
        bar = super().init_train_tqdm()
        bar.__class__ = BrokenTqdm
        return bar


class FailsToAnalyse(SharpnessMonitor):
    """Fails in the leader alone at step 3, after the first product."""

    def _begin(self, trainer: Any, module: LightningModule) -> Any:
        found = super()._begin(trainer, module)
        source: Any = self._source
        analysis = source._analysis

        def broken(ask: Any, hessian: Any) -> Any:
            ask(torch.ones(hessian.size))
            if trainer.global_step == 3:
                raise MemoryError("broken on purpose")
            return analysis(ask, hessian)

        source._analysis = broken
        return found


def batches(count: int = 8) -> list[Any]:
    """Batches of equal size, which processes take in turn."""
    return list(DataLoader(samples(4 * count), 4))


def own(count: int) -> SharpnessMonitor:
    """Measures on batches of its own, so that two processes share what one has for itself."""
    return watch(every_n_steps=2, num_eigenvalues=2, num_minibatches=count, dataloader=batches())


def train(*measuring: Callback, module: type[Classifier] = Classifier, devices: int = 2) -> dict[str, Any]:
    seed_everything()
    net, recorder = module(), Recorder()
    strategy: Any = DDPStrategy(process_group_backend="gloo", find_unused_parameters=True) if devices > 1 else "auto"
    # the whole of the data in each process: two of them take the steps that one takes
    data = DataLoader(samples(24), 24)
    shows = any(isinstance(callback, BrokenBar) for callback in measuring)
    options = {"devices": devices, "strategy": strategy, "max_epochs": 5, "use_distributed_sampler": False}
    options |= {"enable_progress_bar": shows}
    trainer = fit(net, *measuring, recorder, data=data, **options)
    return {
        "state": net.state_dict(),
        "batches": recorder.batches,
        "gradients": recorder.gradients,
        "random": torch.get_rng_state(),
        "metrics": {k: v for k, v in trainer.callback_metrics.items() if k != "sharpness"},
        "sharpness": trainer.callback_metrics.get("sharpness"),
        "reports": [
            {**asdict(report), "seconds": 0}
            for callback in measuring
            if isinstance(callback, SharpnessMonitor)
            for report in callback.reports
        ],
    }


def main() -> None:
    results = {
        "without": train(),
        "watched": train(own(4)),
        "naive": train(NaiveMeasurement()),
        "failing": train(
            FailsToAnalyse(1, num_minibatches=1, trace_samples=None, dataloader=batches(), parameters="0.weight"),
            BrokenBar(),
            module=FailsOnOneRank,
        ),
        "failed bars": BrokenTqdm.failed,
    }
    torch.save(results, Path(sys.argv[1]) / f"rank{os.environ.get('LOCAL_RANK', '0')}.pt")


if __name__ == "__main__":
    main()
