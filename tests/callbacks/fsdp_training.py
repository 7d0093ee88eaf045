"""Run as a script: trains sharded over two processes, with and without the monitor, and saves what each of them saw."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_tailindex import FirstExitMonitor, TailIndexMonitor, WeightSpectrumMonitor
from tests.callbacks import fsdp_modules
from tests.callbacks.fsdp_callbacks import InPlace, Seen, Sizes, States, local
from tests.callbacks.fsdp_modules import Plain, ShardedNet
from tests.callbacks.noise_unit_ranks import batches, samples
from tests.callbacks.training_trace import NoisyData, seed_everything

QUIET = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
SOURCES = ("extra", "training")
MEASURED_ALIKE = ("Plain", "Replicated", "Hybrid", "Grouped", "Tied", "Parametrized", "Whole", "Offloaded")
REFUSED = ("HalfSharded", "Columns", "NotSharded")


def sharded(**options: Any) -> Trainer:
    sizes = {"data_parallel_size": 2, "tensor_parallel_size": 1, **options.pop("sizes", {})}
    strategy = ModelParallelStrategy(**sizes, process_group_backend="gloo")
    return Trainer(devices=2, strategy=strategy, **QUIET, **options)


def train(
    *measuring: Callback,
    accumulation: int = 1,
    module: Callable[[], LightningModule] = ShardedNet,
    data: Callable[[], Any] = lambda: NoisyData(80),
) -> dict[str, object]:
    """Trains from fixed seeds and returns what is left in this process."""
    seed_everything()
    net, seen = module(), Seen()
    trainer = sharded(
        max_epochs=2, accumulate_grad_batches=accumulation, callbacks=[*measuring, seen], gradient_clip_val=None
    )
    trainer.fit(net, DataLoader(data(), batch_size=4, shuffle=True), DataLoader(NoisyData(8), batch_size=4))
    (optimizer,) = trainer.optimizers
    return {
        "parameters": local(dict(net.named_parameters())),
        "buffers": local(dict(net.named_buffers())),
        "optimizer": [local(dict(state)) for state in optimizer.state.values()],
        "losses": seen.losses,
        "batches": seen.batches,
        "gradients": seen.gradients,
        "random": torch.get_rng_state(),
        "attributes": (net.history, net.seen, local(net.centre)),
        "metrics": {k: v for k, v in trainer.callback_metrics.items() if not k.startswith("tail_index")},
        "reports": list(reports(measuring)),
    }


def reports(callbacks: Any) -> Iterator[dict[str, Any]]:
    """The reports of monitors among callbacks, without the time that they took."""
    for callback in callbacks:
        if isinstance(callback, TailIndexMonitor):
            yield from ({**asdict(report), "seconds": 0} for report in callback.reports)


def in_turn(count: int) -> DataLoader[Any]:
    """Every second sample for each of two processes, or all of them; 12 samples a minibatch over all processes."""
    data, rank = samples(), int(os.environ.get("LOCAL_RANK", "0"))
    return DataLoader(data, sampler=range(rank % count, len(data), count), batch_size=12 // count)


def report(
    kind: str, source: str = "extra", engine: str = "auto", *, max_coordinates: int | None = 40, num_processes: int = 2
) -> dict[str, Any]:
    """Measures the same global minibatches, 12 samples each, be it in one process or two."""
    monitor = TailIndexMonitor(
        every_n_steps=1000,
        num_minibatches=16,
        full_gradient_batches=None,
        max_coordinates=max_coordinates,
        dataloader=batches() if source == "extra" else None,
        source=source,
        engine=engine,
        on_error="raise",
    )
    length = {"max_steps": 1} if source == "extra" else {"max_epochs": 3}
    options: dict[str, Any] = {"callbacks": [monitor], "use_distributed_sampler": False, **length}
    if num_processes == 2:
        trainer = sharded(**options)
    else:
        # two loader batches of a single process are what two processes take at once
        trainer = Trainer(devices=1, accumulate_grad_batches=2 if source == "extra" else 1, **QUIET, **options)
    trainer.fit(getattr(fsdp_modules, kind)(), in_turn(num_processes))
    (only,) = reports([monitor])
    return only


class BreaksInOneProcess(NoisyData):
    """Data that the second process cannot read a hundredth time, as late measurements do and training does not."""

    def __getitem__(self, index: int) -> Any:
        if self.reads == 100 and os.environ.get("LOCAL_RANK") == "1":
            self.reads += 1
            raise ValueError("broken on purpose")
        return super().__getitem__(index)


class BreaksInBoth(ShardedNet):
    """Cannot be measured at step 4, and finds out in the middle of a pass."""

    def gradient_noise_step(self, batch: Any, batch_idx: int) -> Tensor:
        hidden = self.body(batch[0])
        if self.trainer.global_step == 4:
            raise ValueError("broken on purpose")
        return nn.functional.cross_entropy(self.head(hidden), batch[1])


def spectra() -> dict[str, Any]:
    """Measures sharded weights, and returns them whole beside the last report."""
    watcher = WeightSpectrumMonitor(every_n_steps=2, min_tail=3, on_error="raise")
    net, trainer = ShardedNet(), sharded(callbacks=[watcher], max_epochs=1, limit_train_batches=3)
    trainer.fit(net, DataLoader(NoisyData(80), batch_size=4), DataLoader(NoisyData(8), batch_size=4))
    whole: dict[str, Any] = {name: weight.full_tensor() for name, weight in net.named_parameters()}  # type: ignore[operator]
    return {"steps": [report.step for report in watcher.reports], "last": asdict(watcher.reports[-1]), "weights": whole}


def refusal(kind: str = "Plain", sizes: dict[str, int] | None = None, callback: Any = None, **options: Any) -> str:
    """Returns what the user is told, before a batch was trained on."""
    trainer = sharded(callbacks=[callback or TailIndexMonitor(**options)], max_epochs=1, sizes=sizes or {})
    try:
        trainer.fit(getattr(fsdp_modules, kind)(), DataLoader(samples(), batch_size=6))
    except Exception as error:
        return f"{type(error).__name__} at step {trainer.global_step}: {error}"
    return "nothing"


def monitor(**options: Any) -> TailIndexMonitor:
    return TailIndexMonitor(**{"every_n_steps": 4, "num_minibatches": 16, **options})


def main() -> None:
    warnings.filterwarnings("error", message="a measurement wrote to")
    results: dict[object, Any] = {}
    for accumulation in (1, 2):
        watcher = monitor(every_n_steps=5, on_error="raise")  # right after validation, too
        results[accumulation] = [train(accumulation=accumulation), train(watcher, accumulation=accumulation)]
    without = results[1][0]
    results["in place"] = [without, train(InPlace())]
    for name, case in {"module": {"module": BreaksInBoth}, "data": {"data": lambda: BreaksInOneProcess(80)}}.items():
        results[f"broken {name}"] = [without, train(monitor(), **case)]
    results["reports"] = {kind: report(kind) for kind in MEASURED_ALIKE}
    results["vectorized"] = report("Plain", engine="vectorized")
    results["gradients of training"] = report("Plain", "training")
    results["every coordinate"] = {source: report("Plain", source, max_coordinates=None) for source in SOURCES}
    sizes = Sizes()
    sharded(callbacks=[sizes], max_steps=1).fit(Plain(), DataLoader(samples(), batch_size=6))
    results["sizes"] = sizes.sizes
    results["spectra"] = spectra()
    states, often = States(), TailIndexMonitor(every_n_steps=1, num_minibatches=16)
    sharded(callbacks=[often, states], max_steps=3).fit(Plain(), in_turn(2))
    results["states"] = states.counts
    results["refused"] = {
        **{kind: refusal(kind) for kind in REFUSED},
        "tensor parallel": refusal(sizes={"data_parallel_size": 1, "tensor_parallel_size": 2}),
        "loader": refusal(noise_unit="loader"),
        "first exit": refusal(callback=FirstExitMonitor()),
    }
    torch.save(results, Path(sys.argv[1]) / f"rank{os.environ.get('LOCAL_RANK', '0')}.pt")


if __name__ == "__main__":
    main()
