from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_tailindex import gradient_noise
from lightning_tailindex.noise.combining import combine
from lightning_tailindex.noise.engine import Engine, collect_gradients
from lightning_tailindex.noise.groups import measured_parameters, resolve_grouping
from lightning_tailindex.noise.minibatches import Minibatch
from lightning_tailindex.noise.observation import NoiseObservation
from lightning_tailindex.noise.processes import Processes
from lightning_tailindex.noise.vectorized import CannotVectorizeError, Vectorizer, num_together, pays

Loss = Callable[[Any], Tensor]


def net(*more: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), *more, nn.Linear(16, 3))


def batches(sizes: list[int]) -> list[dict[str, Any]]:
    rng = torch.Generator().manual_seed(1)
    return [
        {"x": torch.randn(n, 6, generator=rng), "y": torch.randint(3, (n,), generator=rng), "name": "train"}
        for n in sizes
    ]


def loss_of(module: nn.Module) -> Loss:
    return lambda batch: nn.functional.cross_entropy(module(batch["x"]), batch["y"])


def observe(module: nn.Module, loss: Loss, minibatches: list[Minibatch], engine: Engine) -> NoiseObservation:
    recorder = collect_gradients(
        module,
        measured_parameters(module),
        resolve_grouping("module"),
        minibatches,
        loss,
        num_draws=sum(minibatch.is_draw for minibatch in minibatches),
        max_coordinates=None,
        seed=0,
        engine=engine,
    )
    return combine(recorder, Processes())


def minibatches(sizes: list[int], accumulation: int = 1, draws: int = 20) -> list[Minibatch]:
    data = batches(sizes)
    chunks = [tuple(data[i : i + accumulation]) for i in range(0, len(data), accumulation)]
    return [
        Minibatch(chunk, sum(len(b["y"]) for b in chunk), i < draws, in_full_gradient=i != 3)
        for i, chunk in enumerate(chunks)
    ]


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("sizes", [[8] * 60, [8] * 59 + [5], [8, 7, 8, 8, 6] * 12], ids=["equal", "short", "mixed"])
def test_gives_the_gradients_of_the_loop(sizes: list[int], accumulation: int) -> None:
    module = net()
    loop, vectorized = (
        observe(module, loss_of(module), minibatches(sizes, accumulation, 12), engine)
        for engine in ("loop", "vectorized")
    )
    assert (loop.num_draws, loop.num_full_minibatches) == (vectorized.num_draws, vectorized.num_full_minibatches)
    assert loop.minibatch_size == vectorized.minibatch_size
    for own, other in zip(loop.groups, vectorized.groups, strict=True):
        torch.testing.assert_close(own.gradients, other.gradients, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(own.full_gradient, other.full_gradient, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(own.noise_norm, other.noise_norm, rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(own.gradient_norm, other.gradient_norm, rtol=1e-4, atol=1e-7)


def test_the_full_gradient_weights_minibatches_by_their_samples() -> None:
    module, sizes = net(), [8, 4, 8, 8, 2]
    data = batches(sizes)
    whole = {key: torch.cat([batch[key] for batch in data]) for key in ("x", "y")}
    marked = [
        Minibatch((b,), n, i < 2, in_full_gradient=True) for i, (b, n) in enumerate(zip(data, sizes, strict=True))
    ]
    expected = torch.autograd.grad(loss_of(module)(whole), list(module.parameters()))
    for engine in ("loop", "vectorized"):
        full = observe(module, loss_of(module), marked, engine).groups[-1].full_gradient  # type: ignore[arg-type]
        torch.testing.assert_close(full, torch.cat([gradient.flatten() for gradient in expected]))


class Counting(nn.Module):
    """Looks at its data while it runs."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (2.0 if x.mean().item() > 0 else 1.0)


@pytest.mark.parametrize("part", [nn.BatchNorm1d(16), Counting()], ids=["batch_norm", "item"])
def test_gives_way_to_the_loop_with_the_same_result(part: nn.Module) -> None:
    module = net(part)
    loss = lambda shadow, batch: nn.functional.cross_entropy(shadow(batch["x"]), batch["y"])  # noqa: E731
    with pytest.raises(CannotVectorizeError):
        observe(module, loss_of(module), minibatches([8] * 20), "vectorized")
    found = [gradient_noise(net(part), loss, batches([8] * 20), engine=engine) for engine in ("loop", "vectorized")]  # type: ignore[arg-type]
    for name, noise in found[0].items():
        assert torch.equal(noise, found[1][name])


class Twice(nn.Module):
    """Adds two parameters up, whose gradients are one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.change = nn.Parameter(torch.randn(3, 6)), nn.Parameter(torch.zeros(3, 6))

    def forward(self, x: Tensor) -> Tensor:
        return x @ (self.weight + self.change).T


def test_gradients_that_are_one_tensor_are_kept_apart() -> None:
    torch.manual_seed(0)
    module, data = Twice(), minibatches([8] * 60, draws=20)
    loop, vectorized = (observe(module, loss_of(module), data, engine) for engine in ("loop", "vectorized"))
    for own, other in zip(loop.groups, vectorized.groups, strict=True):
        torch.testing.assert_close(own.gradients, other.gradients, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(own.full_gradient, other.full_gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("is_random", [False, True])
def test_parameters_that_are_reached_past_their_names_are_left_to_the_loop(is_random: bool) -> None:
    module = net(*[nn.Dropout(0.1)] * is_random)
    penalized = list(module.parameters())

    def loss(batch: Any) -> Tensor:
        return loss_of(module)(batch) + sum(parameter.square().sum() for parameter in penalized)  # type: ignore[no-any-return]

    with pytest.raises(CannotVectorizeError, match="by another way than its name"):
        observe(module, loss, minibatches([8] * 20), "vectorized")


@pytest.mark.parametrize("value", [-1.0, 0.0], ids=["nan", "infinite"])
@pytest.mark.parametrize("counts", [False, True])
def test_gradients_that_are_not_finite_are_no_reason_to_refuse_a_loss(value: float, counts: bool) -> None:
    module, calls = net(), []
    module.register_parameter("diverged", nn.Parameter(torch.tensor(value)))

    def loss(batch: Any) -> Tensor:
        calls.append(batch)
        return (1 + counts * len(calls)) * loss_of(module)(batch) + module.diverged.sqrt()  # type: ignore[operator, union-attr]

    if counts:
        with pytest.raises(CannotVectorizeError, match="another loss each time"):
            observe(module, loss, minibatches([8] * 20), "vectorized")
    else:
        assert not observe(module, loss, minibatches([8] * 20), "vectorized").groups[-1].gradients.isfinite().all()


def test_lazy_layers_are_left_to_the_loop() -> None:
    module = nn.Sequential(nn.Linear(6, 16), nn.LazyLinear(3))
    with pytest.raises(CannotVectorizeError, match="the module has lazy parameters"):
        observe(module, loss_of(module), minibatches([8] * 20), "vectorized")


def test_dropout_differs_between_minibatches() -> None:
    data = batches([8]) * 20
    loss = lambda shadow, batch: nn.functional.cross_entropy(shadow(batch["x"]), batch["y"])  # noqa: E731
    noise = gradient_noise(net(nn.Dropout(0.5)), loss, data, engine="vectorized")["whole_model"]
    assert noise.std(0).max() > 0.01
    assert gradient_noise(net(), loss, data, engine="vectorized")["whole_model"].abs().max() < 1e-6


def test_a_loss_without_a_gradient_is_an_error_and_no_noise_of_zeros() -> None:
    loss = lambda shadow, batch: shadow(batch["x"]).detach().mean()  # noqa: E731
    with pytest.raises(ValueError, match="must be a tensor with a gradient, it has none"):
        gradient_noise(net(), loss, batches([8] * 20), engine="vectorized")


def test_tied_and_frozen_parameters() -> None:
    def tied() -> nn.Module:
        module = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Linear(6, 3))
        module[2].weight = module[0].weight
        module[3].bias.requires_grad_(False)  # type: ignore[union-attr]
        return module

    torch.manual_seed(0)
    module = tied()
    loss = lambda shadow, batch: nn.functional.cross_entropy(shadow(batch["x"]), batch["y"])  # noqa: E731
    found = [gradient_noise(module, loss, batches([8] * 20), engine=engine) for engine in ("loop", "vectorized")]  # type: ignore[arg-type]
    assert found[0].keys() == found[1].keys()
    for name, noise in found[0].items():
        torch.testing.assert_close(noise, found[1][name], rtol=1e-4, atol=1e-7)


def test_small_modules_are_vectorized_and_large_ones_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    each = Vectorizer.each
    monkeypatch.setattr(Vectorizer, "each", lambda self, chunk: (used.append(len(chunk)), each(self, chunk))[1])
    loss = lambda shadow, batch: nn.functional.cross_entropy(shadow(batch["x"]), batch["y"])  # noqa: E731
    gradient_noise(net(), loss, batches([8] * 20))
    assert used == [20]
    used.clear()
    large = nn.Sequential(nn.Linear(6, 1500), nn.Linear(1500, 1500), nn.Linear(1500, 3))
    assert not pays(large, measured_parameters(large))
    assert num_together(measured_parameters(large)) == 1
    convolution = nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    assert not pays(convolution, measured_parameters(convolution))
    gradient_noise(convolution, loss, batches([8] * 20))
    gradient_noise(large, loss, batches([8] * 20))
    gradient_noise(net(), loss, batches([8] * 20), engine="loop")
    assert used == []
