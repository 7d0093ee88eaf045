"""What is measured is the module as it is trained: with methods that were set on it, and weights that it writes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import MethodType
from typing import Any
from unittest.mock import patch

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer, seed_everything
from torch import Tensor, nn
from torch.nn.parameter import UninitializedBuffer
from torch.optim import SGD, Optimizer
from torch.utils.data import DataLoader, TensorDataset

from lightning_tailindex import SharpnessMonitor, TailIndexMonitor, gradient_noise
from lightning_tailindex.noise.shadow import alias_shadow

pytestmark = pytest.mark.uncounted


class Net(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.tanh(self.body(x)))
        return out

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return SGD(self.parameters(), lr=0.05)


def fit(
    path: Path, module: Callable[[], LightningModule], *callbacks: Callback, samples: int = 256, steps: int = -1
) -> LightningModule:
    seed_everything(0)
    x = torch.randn(samples, 6, generator=torch.Generator().manual_seed(0))
    net = module()
    own = {"default_root_dir": path, "logger": False, "enable_checkpointing": False, "accelerator": "cpu"}
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    data = DataLoader(TensorDataset(x, (x.sum(1) > 0).long()), batch_size=8, shuffle=True)
    Trainer(**own, **quiet, max_epochs=2, max_steps=steps, callbacks=list(callbacks)).fit(net, data)
    return net


def noise(path: Path, module: Callable[[], LightningModule]) -> float:
    monitor = TailIndexMonitor(100, num_minibatches=16, on_error="raise")
    fit(path, module, monitor, steps=1)
    return monitor.reports[0].whole_model.noise_norm


class Assigned(Net):
    """Trains by a method that was set on the instance."""

    def __init__(self) -> None:
        super().__init__()
        self.training_step = self.louder  # type: ignore[method-assign]

    def louder(self, batch: Any, batch_idx: int) -> Tensor:
        return 100 * nn.functional.cross_entropy(self(batch[0]), batch[1])


class AssignedForward(Net):
    def __init__(self) -> None:
        super().__init__()
        self.forward = self.louder  # type: ignore[method-assign]

    def louder(self, x: Tensor) -> Tensor:
        return Net.forward(self, x) * 5


class AssignedFunction(Net):
    def __init__(self) -> None:
        super().__init__()
        self.training_step = lambda batch, batch_idx: 100 * Net.training_step(self, batch, batch_idx)  # type: ignore[method-assign]


class CompiledSteps(Net):
    def __init__(self) -> None:
        super().__init__()
        self.training_step = torch.compile(self.louder, backend="eager")  # type: ignore[method-assign]
        self.forward = torch.compile(self.forward, backend="eager")  # type: ignore[method-assign]

    def louder(self, batch: Any, batch_idx: int) -> Tensor:
        return 100 * nn.functional.cross_entropy(self(batch[0]), batch[1])


class CompiledFunction(Net):
    """A function that was compiled, and is no method of this module's class."""

    def __init__(self) -> None:
        super().__init__()
        louder = lambda batch, batch_idx: 100 * Net.training_step(self, batch, batch_idx)  # noqa: E731
        self.training_step = torch.compile(louder, backend="eager")  # type: ignore[method-assign]


class AssignedMethod(Net):
    """A bound method that captured something, is not its class's, and takes no number of the batch."""

    def __init__(self) -> None:
        super().__init__()
        factor = [100]
        louder = lambda self, batch: factor[0] * Net.training_step(self, batch, 0)  # noqa: E731
        self.training_step = MethodType(louder, self)  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("module", "least"), [(Assigned, 50), (AssignedFunction, 50), (AssignedMethod, 50), (AssignedForward, 2)]
)
def test_methods_that_were_set_on_the_module_are_measured(module: type[Net], least: float, tmp_path: Path) -> None:
    assert noise(tmp_path, module) > least * noise(tmp_path, Net)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch.compile's own
def test_compiled_methods_are_measured_as_they_were_before(tmp_path: Path) -> None:
    assert noise(tmp_path, CompiledSteps) == pytest.approx(noise(tmp_path, Assigned), rel=1e-4)
    assert noise(tmp_path, CompiledFunction) == pytest.approx(noise(tmp_path, Assigned), rel=1e-4)


class Branching(Net):
    """Chooses between branches by an operator that compiles itself to see which parameters they use."""

    def __init__(self) -> None:
        super().__init__()
        self.louder = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        taken = torch.cond(x.sum() > -1e9, lambda x: self.louder(x).tanh(), lambda x: x * 1.0, (x,))
        return super().forward(x + taken)


@pytest.mark.skipif(not hasattr(torch.compiler, "set_stance"), reason="torch before 2.6 differentiates no torch.cond")
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch.compile's own
def test_parameters_of_a_branch_are_measured(tmp_path: Path) -> None:
    monitor = TailIndexMonitor(100, num_minibatches=16, on_error="raise")
    fit(tmp_path, Branching, monitor, steps=1)
    norms = {measurement.group: measurement.noise_norm for measurement in monitor.reports[0].measurements}
    assert norms["louder"] > 0.01 * norms["whole_model"]


def compiled_in_its_class() -> tuple[type[Net], list[int]]:
    """Returns a class with a compiled method, and how often each graph that the compiler made of it has run."""
    runs: list[int] = []

    def counting(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        own = len(runs)
        runs.append(0)

        def run(*args: Any) -> Any:
            runs[own] += 1
            return graph.forward(*args)

        return run

    class Compiled(Net):
        @torch.compile(backend=counting)
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x)

    return Compiled, runs


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch.compile's own
@pytest.mark.parametrize("measured_by", ["trainer", "hand"])
def test_code_that_a_class_compiled_for_training_runs_in_training_alone(measured_by: str, tmp_path: Path) -> None:
    def graphs(*, is_measured: bool) -> list[int]:
        torch._dynamo.reset()
        module, runs = compiled_in_its_class()
        monitors = [TailIndexMonitor(10, num_minibatches=16, on_error="raise")] if is_measured else []
        if measured_by == "trainer":
            fit(tmp_path, module, *monitors, samples=250)  # the last minibatch of an epoch is of two
            return runs
        net = module()
        net(torch.ones(8, 6))
        if is_measured:
            gradient_noise(net, lambda module, x: module(x).sum(), torch.ones(4, 5, 6))
        net(torch.ones(8, 6))
        return runs

    without = graphs(is_measured=False)
    assert graphs(is_measured=True) == without
    with patch("lightning_tailindex.noise.shadow._uncompile"):
        assert graphs(is_measured=True) != without  # the control


class Shortening(Net):
    """Forward passes shorten the embeddings that they look up."""

    has_bags = True

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(50, 6, max_norm=0.5)
        self.bags = nn.EmbeddingBag(50, 6, max_norm=0.5)
        self.tied = self.words

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        index = (batch[0].abs() * 10).long().clamp(max=49)
        bags = self.bags(index) if self.has_bags else 0.0
        return super().training_step([self.tied(index).sum(1) + bags, batch[1]], batch_idx)


class ShorteningWords(Shortening):
    has_bags = False  # which cannot be differentiated twice


@pytest.mark.parametrize("engine", ["loop", "vectorized", "sharpness"])
def test_weights_that_a_forward_pass_writes_are_left_alone(engine: Any, tmp_path: Path) -> None:
    monitor: Any = SharpnessMonitor(10, on_error="raise", trace_samples=None)
    module = ShorteningWords if engine == "sharpness" else Shortening
    if engine != "sharpness":
        monitor = TailIndexMonitor(10, num_minibatches=16, engine=engine, on_error="raise")
    without, watched = fit(tmp_path, module), fit(tmp_path, module, monitor)
    assert len(monitor.reports) > 1
    for name, weight in without.state_dict().items():
        assert torch.equal(weight, watched.state_dict()[name]), name
    assert not torch.equal(without.get_parameter("words.weight"), Shortening().words.weight)


class Wrapper(Optimizer):
    """Hands everything on to another optimizer."""

    def __init__(self, base: Optimizer) -> None:
        self.base, self.defaults = base, base.defaults

    @property
    def param_groups(self) -> Any:  # type: ignore[override]
        return self.base.param_groups

    @property
    def state(self) -> Any:  # type: ignore[override]
        return self.base.state

    def step(self, closure: Any = None) -> Any:  # type: ignore[override]
        return self.base.step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.base.zero_grad(set_to_none)

    def state_dict(self) -> Any:
        return self.base.state_dict()


class Reaching(Wrapper):
    """Lets its groups be replaced through it."""

    @property
    def param_groups(self) -> Any:  # type: ignore[override]
        return self.base.param_groups

    @param_groups.setter
    def param_groups(self, groups: Any) -> None:
        self.base.param_groups = groups


class Wrapped(Net):
    wrapper: type[Wrapper] = Wrapper

    def configure_optimizers(self) -> Any:
        return self.wrapper(SGD(self.parameters(), lr=0.05))

    def on_train_start(self) -> None:
        optimizer: Any = self.optimizers()
        self.first = optimizer.param_groups[0]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        optimizer: Any = self.optimizers()
        optimizer.param_groups[0]["momentum"] = 0.5  # in a measurement, of the copy
        return super().training_step(batch, batch_idx)

    def on_train_epoch_end(self) -> None:
        self.first["lr"] *= 0.1


class WrappedReaching(Wrapped):
    wrapper = Reaching


@pytest.mark.parametrize("module", [Wrapped, WrappedReaching])
def test_wrapped_optimizers_are_left_alone(module: type[Wrapped], tmp_path: Path) -> None:
    monitor = TailIndexMonitor(10, num_minibatches=16, engine="loop", on_error="raise")
    without, watched = fit(tmp_path, module), fit(tmp_path, module, monitor)
    assert len(monitor.reports) > 1
    for name, weight in without.state_dict().items():
        assert torch.equal(weight, watched.state_dict()[name]), name


class OfUnknownShape(Net):
    """Learns at the first step how wide its layers are."""

    norm: Callable[[], nn.Module] = nn.LazyBatchNorm1d

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.LazyLinear(8), self.norm())  # type: ignore[assignment]


class WithInstances(OfUnknownShape):
    norm = staticmethod(partial(nn.LazyInstanceNorm1d, affine=True, track_running_stats=True))


@pytest.mark.parametrize("module", [OfUnknownShape, WithInstances])
def test_layers_of_unknown_shape_are_measured_before_the_first_step(module: type[Net], tmp_path: Path) -> None:
    monitor = TailIndexMonitor(10, num_minibatches=16, on_error="raise")
    without, watched = fit(tmp_path, module), fit(tmp_path, module, monitor)
    assert monitor.reports[0].step == 0
    assert monitor.reports[0].whole_model.noise_norm > 0
    for name, weight in without.state_dict().items():
        assert torch.equal(weight, watched.state_dict()[name]), name
    assert watched.state_dict()["body.1.running_mean"].abs().sum() > 0  # a measurement on the module would move it


def test_a_buffer_of_unknown_shape_keeps_what_it_is() -> None:
    module = nn.LazyBatchNorm1d(dtype=torch.float64)
    module.running_mean.told = [1]  # type: ignore[union-attr]
    shadow = alias_shadow(module)
    assert shadow.running_mean is not module.running_mean
    assert (shadow.running_mean.dtype, shadow.running_mean.told) == (torch.float64, [1])  # type: ignore[union-attr]
    assert shadow(torch.randn(4, 3, dtype=torch.float64)).shape == (4, 3)
    assert isinstance(module.running_mean, UninitializedBuffer)
    assert module(torch.randn(4, 5, dtype=torch.float64)).shape == (4, 5)
