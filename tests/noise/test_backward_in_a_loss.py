"""A loss that calls ``backward`` or ``zero_grad`` itself is measured as the loop of Lightning trains on it."""

from __future__ import annotations

import copy
from collections.abc import Callable

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
from lightning_tailindex.noise.vectorized import CannotVectorizeError, Vectorizer

Loss = Callable[[nn.Module, Tensor], Tensor]
Act = Callable[[nn.Module, Tensor], object]


def plain(module: nn.Module, batch: Tensor) -> Tensor:
    return module(batch).square().mean()


def _nothing(module: nn.Module, batch: Tensor) -> None:
    """The control."""


def _backward(module: nn.Module, batch: Tensor) -> None:
    plain(module, batch + 1).backward()  # type: ignore[no-untyped-call]


def _to_none(module: nn.Module, batch: Tensor) -> None:
    module.zero_grad(set_to_none=True)


def _to_zero(module: nn.Module, batch: Tensor) -> None:
    module.zero_grad(set_to_none=False)


def _of_optimizer(module: nn.Module, batch: Tensor) -> None:
    torch.optim.SGD(module.parameters(), foreach=True).zero_grad(set_to_none=False)


def _both(module: nn.Module, batch: Tensor) -> None:
    _to_none(module, batch)
    _backward(module, batch)


ACTS: dict[str, Act] = {
    "backward": _backward,
    "zero_grad to None": _to_none,
    "zero_grad to 0": _to_zero,
    "an optimizer's zero_grad": _of_optimizer,
    "zero_grad, backward": _both,
}
every_act = pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)


def after(act: Act) -> Loss:
    def loss(module: nn.Module, batch: Tensor) -> Tensor:
        act(module, batch)
        return plain(module, batch)

    return loss


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


@pytest.fixture
def batches() -> list[Tensor]:
    return list(torch.randn(24, 5, 3, generator=torch.Generator().manual_seed(0)))


def accumulated(batches: list[Tensor], accumulation: int, draws: str) -> list[Minibatch]:
    """Minibatches of some loader batches each, those that are draws marked by a D."""
    chunks = [tuple(batches[i : i + accumulation]) for i in range(0, len(batches), accumulation)]
    return [Minibatch(chunk, 5 * accumulation, draws[i] == "D", True) for i, chunk in enumerate(chunks)]


def observe(net: nn.Module, loss: Loss, minibatches: list[Minibatch], engine: Engine = "loop") -> NoiseObservation:
    shadow = copy.deepcopy(net)
    recorder = collect_gradients(
        shadow,
        measured_parameters(shadow),
        resolve_grouping("model"),
        minibatches,
        lambda batch: loss(shadow, batch),  # type: ignore[arg-type]
        num_draws=sum(minibatch.is_draw for minibatch in minibatches),
        max_coordinates=None,
        seed=0,
        engine=engine,
    )
    return combine(recorder, Processes())


def trained(net: nn.Module, loss: Loss, minibatches: list[Minibatch]) -> Tensor:
    """The gradients that optimizer steps get, in the order of Lightning's closure."""
    rows = []
    for minibatch in minibatches:
        for i, batch in enumerate(minibatch.batches):
            found = loss(net, batch) / len(minibatch.batches)  # type: ignore[arg-type]
            if i == 0:
                net.zero_grad()
            found.backward()  # type: ignore[no-untyped-call]
        rows.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]))
    return torch.stack(rows)


@every_act
@pytest.mark.parametrize("engine", ["loop", "vectorized", "auto"])
def test_what_a_loss_leaves_in_the_gradients_is_not_measured(
    act: Act, engine: Engine, net: nn.Module, batches: list[Tensor]
) -> None:
    cut = [*batches[:-1], batches[-1][:2]]  # the last one counts in the full gradient alone
    expected = gradient_noise(net, plain, cut, engine=engine)
    found = gradient_noise(net, after(act), cut, engine=engine)
    for name, noise in expected.items():
        torch.testing.assert_close(found[name], noise)
    other = gradient_noise(net, lambda module, x: plain(module, x) + plain(module, x + 1), cut, engine=engine)
    assert not torch.allclose(other["whole_model"], expected["whole_model"])  # the control: as if it were counted


@every_act
@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("draws", ["DDDD....", "D..DD.D."], ids=["draws first", "draws among others"])
def test_the_loop_measures_the_gradients_that_steps_get(
    act: Act, accumulation: int, draws: str, net: nn.Module, batches: list[Tensor]
) -> None:
    minibatches = accumulated(batches[: 8 * accumulation], accumulation, draws)
    rows = trained(copy.deepcopy(net), after(act), minibatches)
    found = observe(net, after(act), minibatches).groups[-1]
    torch.testing.assert_close(found.gradients, rows[[i for i, mark in enumerate(draws) if mark == "D"]])
    torch.testing.assert_close(found.full_gradient, rows.mean(0))
    without = trained(copy.deepcopy(net), plain, minibatches)
    assert torch.allclose(rows, without) == (accumulation == 1)  # the control: accumulation is where it matters


@pytest.mark.parametrize("act", [_nothing, _to_none, _to_zero, _of_optimizer])
def test_without_accumulation_a_loss_that_zeroes_gradients_is_vectorized(
    act: Act, net: nn.Module, batches: list[Tensor]
) -> None:
    minibatches = accumulated(batches, 1, "D" * 20 + "." * 4)
    expected = observe(net, plain, minibatches, "loop").groups[-1]
    found = observe(net, after(act), minibatches, "vectorized").groups[-1]
    torch.testing.assert_close(found.gradients, expected.gradients)
    torch.testing.assert_close(found.full_gradient, expected.full_gradient)


@every_act
def test_with_accumulation_a_loss_that_writes_to_gradients_is_not_vectorized(
    act: Act, net: nn.Module, batches: list[Tensor]
) -> None:
    minibatches = accumulated(batches, 3, "DDDD....")
    with pytest.raises(CannotVectorizeError, match="writes to the gradients"):
        observe(net, after(act), minibatches, "vectorized")
    observe(net, plain, minibatches, "vectorized")  # the control


def test_gradients_that_are_not_replaced_are_looked_at_too(net: nn.Module, batches: list[Tensor]) -> None:
    optimizer = torch.optim.SGD(net.parameters())

    def loss(batch: object) -> Tensor:
        optimizer.zero_grad()
        return plain(net, batch)  # type: ignore[arg-type]

    vectorizer = Vectorizer(net, measured_parameters(net), loss)
    with pytest.raises(CannotVectorizeError, match="writes to the gradients"):
        vectorizer.check(accumulated(batches, 3, "D" * 8)[0])
    vectorizer.check(accumulated(batches, 1, "D" * 24)[0])  # the control
    assert all(parameter.grad is None for parameter in net.parameters())
