"""The engine's gradients against an obvious loop, and what it must survive."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from lightning.fabric import Fabric
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_tailindex import gradient_noise
from lightning_tailindex.noise.combining import combine
from lightning_tailindex.noise.engine import collect_gradients
from lightning_tailindex.noise.groups import measured_parameters, resolve_grouping
from lightning_tailindex.noise.minibatches import LoaderBatch, Minibatch, SweepPlan, plan_minibatches
from lightning_tailindex.noise.observation import NoiseObservation
from lightning_tailindex.noise.processes import OtherProcessError, Processes


def square_loss(module: nn.Module, batch: Any) -> Tensor:
    return module(batch).square().mean()


def reference(module: nn.Module, batches: list[Tensor], name: str) -> Tensor:
    """Each minibatch's gradient of one parameter, by a fresh copy and a plain backward."""
    rows = []
    for batch in batches:
        own = copy.deepcopy(module)
        torch.autograd.backward(square_loss(own, batch))
        gradient = dict(own.named_parameters())[name].grad
        assert gradient is not None
        rows.append(gradient.flatten())
    return torch.stack(rows)


@pytest.fixture
def batches() -> list[Tensor]:
    return list(torch.randn(20, 7, 3, generator=torch.Generator().manual_seed(0)))


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh(), nn.Linear(4, 2))


def test_noise_is_the_minibatch_gradient_minus_the_full_gradient(net: nn.Module, batches: list[Tensor]) -> None:
    noise = gradient_noise(net, square_loss, batches, group_by="parameter")
    for name in ("0.weight", "1.bias", "3.weight"):
        rows = reference(net, batches, name)
        torch.testing.assert_close(noise[name], rows - rows.mean(0), atol=1e-6, rtol=1e-5)
    assert noise["whole_model"].shape == (20, sum(p.numel() for p in net.parameters()))


def test_the_module_is_left_alone(net: nn.Module, batches: list[Tensor]) -> None:
    before = copy.deepcopy(net.state_dict())
    random = torch.get_rng_state()
    gradient_noise(net, square_loss, batches)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
    assert all(parameter.grad is None for parameter in net.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    square_loss(net, batches[0])  # the control: using the module itself moves its running statistics
    assert not all(torch.equal(net.state_dict()[name], value) for name, value in before.items())


def test_a_smaller_minibatch_counts_by_its_size_and_is_no_draw(batches: list[Tensor]) -> None:
    net = nn.Linear(3, 2)
    cut = [*batches[:19], batches[19][:2]]
    rows = reference(net, cut, "weight")
    weights = torch.tensor([float(len(batch)) for batch in cut])
    full = (weights[:, None] * rows).sum(0) / weights.sum()
    noise = gradient_noise(net, square_loss, cut, group_by="parameter")["weight"]
    torch.testing.assert_close(noise, rows[:19] - full, atol=1e-6, rtol=1e-5)


def test_only_the_last_minibatch_can_be_incomplete(batches: list[Tensor]) -> None:
    ragged = [batch[: 7 - i % 3] for i, batch in enumerate(batches)]
    assert gradient_noise(nn.Linear(3, 2), square_loss, [*ragged, batches[0]])["whole_model"].shape[0] == 21


def test_no_minibatches_give_no_draws() -> None:
    assert gradient_noise(nn.Linear(3, 2), square_loss, [])["whole_model"].shape == (0, 8)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"max_coordinates": 0}, "max_coordinates must be None or an integer of at least 1, got 0"),
        ({"max_coordinates": 2.5}, "max_coordinates must be None or an integer of at least 1, got 2.5"),
        ({"max_coordinates": "all"}, "max_coordinates must be None or an integer of at least 1, got 'all'"),
        ({"engine": "vectorised"}, "engine must be among auto, loop, vectorized, got 'vectorised'"),
        ({"seed": -1}, r"seed must be an integer in \[0, 2\*\*63\), got -1"),
        ({"seed": 0.5}, r"seed must be an integer in \[0, 2\*\*63\), got 0.5"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        gradient_noise(nn.Linear(3, 2), square_loss, [], **arguments)


@pytest.mark.parametrize("engine", ["loop", "vectorized"])
def test_a_loss_that_is_no_tensor_is_named(batches: list[Tensor], engine: Any) -> None:
    def as_number(module: nn.Module, batch: Any) -> Any:
        return float(square_loss(module, batch).detach().sum()) if engine == "loop" else 0.5

    with pytest.raises(ValueError, match="must be a tensor with a gradient, got float"):
        gradient_noise(nn.Linear(3, 2), as_number, batches, engine=engine)


@pytest.mark.parametrize("engine", ["auto", "loop", "vectorized"])
def test_a_loss_of_another_module_than_the_given_one_is_named_and_harms_nothing(
    batches: list[Tensor], engine: Any
) -> None:
    net, other = nn.Linear(3, 2), nn.Linear(3, 2)
    square_loss(net, batches[0]).backward()
    before = net.weight.grad, copy.deepcopy(net.weight.grad)
    for used in (net, other):
        with pytest.raises(ValueError, match="loss_fn must use the module that it is given"):
            gradient_noise(net, lambda _, batch, used=used: square_loss(used, batch), batches, engine=engine)
    assert net.weight.grad is before[0]
    assert torch.equal(net.weight.grad, before[1])


def test_parameters_that_no_loss_reaches_are_named(batches: list[Tensor]) -> None:
    net = nn.ModuleDict({"used": nn.Linear(3, 2), "unused": nn.Linear(3, 2)})
    with pytest.raises(ValueError, match="and what is measured of it, got losses that reach none"):
        gradient_noise(net, lambda m, batch: square_loss(m["used"], batch), batches, parameters="unused")


class Averages(nn.Module):
    """Moves weights by hand, which are its own or hidden in a list."""

    def __init__(self, is_hidden: bool) -> None:
        super().__init__()
        self.net, average = nn.Linear(3, 2), nn.Linear(3, 2)
        self.kept = [average] if is_hidden else nn.ModuleList([average])

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.kept[0].weight.mul_(0.9).add_(self.net.weight, alpha=0.1)
        return self.net(x) - self.kept[0](x).detach()


def test_weights_that_hide_from_the_module_are_not_written(batches: list[Tensor]) -> None:
    module = Averages(is_hidden=True)
    before = module.kept[0].weight.detach().clone()
    gradient_noise(module, square_loss, batches)
    assert torch.equal(module.kept[0].weight, before)
    square_loss(module, batches[0])  # a control
    assert not torch.equal(module.kept[0].weight, before)


def test_weights_of_the_module_that_the_loss_writes_are_told(batches: list[Tensor]) -> None:
    with pytest.warns(UserWarning, match=r"a measurement wrote to 'kept\.0\.weight'"):
        gradient_noise(Averages(is_hidden=False), square_loss, batches, engine="loop")


@pytest.mark.parametrize("engine", ["auto", "loop", "vectorized"])
def test_gradients_that_are_zero_are_no_error(batches: list[Tensor], engine: Any) -> None:
    noise = gradient_noise(nn.Linear(3, 2), lambda m, batch: square_loss(m, batch) * 0, batches, engine=engine)
    assert noise["whole_model"].shape == (20, 8)
    assert not noise["whole_model"].any()


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_modules_of_fabric(batches: list[Tensor], precision: Any) -> None:
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)
    module = fabric.setup_module(nn.Linear(3, 2))
    rows = []
    for batch in batches:
        fabric.backward(square_loss(module, batch))
        rows.append(module.weight.grad.flatten().float())
        module.weight.grad = None
    expected = torch.stack(rows) - torch.stack(rows).mean(0)
    noise = gradient_noise(module, square_loss, batches, group_by="parameter", engine="loop")["_forward_module.weight"]
    torch.testing.assert_close(noise, expected, atol=1e-6, rtol=1e-5)
    if precision == "bf16-mixed":  # a control: the module itself still asks for Fabric's
        with pytest.raises(RuntimeError, match="requires you to call"):
            square_loss(module, batches[0]).backward()


def test_a_loss_that_is_forgotten_is_said(batches: list[Tensor]) -> None:
    with pytest.raises(ValueError, match="loss_fn must return a loss, got None for each minibatch"):
        gradient_noise(nn.Linear(3, 2), lambda module, x: None, batches)  # type: ignore[arg-type, return-value]


class Zoo(nn.Module):
    """Parameters of every kind, each with a gradient of its own kind."""

    def __init__(self) -> None:
        super().__init__()
        self.sparse = nn.Embedding(6, 3, sparse=True)
        self.complex = nn.Parameter(torch.randn(3, dtype=torch.complex64))
        self.unused = nn.Linear(3, 3)
        self.frozen = nn.Linear(3, 3).requires_grad_(False)
        self.tied = nn.Linear(3, 3)
        self.again = self.tied

    def forward(self, index: Tensor) -> Tensor:
        hidden = self.again(self.frozen(self.tied(self.sparse(index))))
        return (hidden * self.complex).abs()


def test_parameters_of_every_kind() -> None:
    torch.manual_seed(0)
    index = list(torch.randint(6, (20, 5)))
    noise = gradient_noise(Zoo(), square_loss, index, group_by="module")
    assert list(noise) == ["complex", "sparse", "unused", "tied", "whole_model"]
    assert noise["complex"].shape == (20, 6)
    assert not noise["complex"].is_complex()
    assert noise["sparse"].abs().sum() > 0
    assert noise["unused"].abs().sum() == 0


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 2)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        return checkpoint(self.second, hidden, use_reentrant=self.reentrant)  # type: ignore[no-any-return]


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpointing_changes_nothing(reentrant: bool, batches: list[Tensor]) -> None:
    net = Checkpointed(reentrant)
    rows = reference(net, batches, "second.weight")
    noise = gradient_noise(net, square_loss, batches, group_by="parameter")["second.weight"]
    torch.testing.assert_close(noise, rows - rows.mean(0), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("dtype", "kept"), [(torch.float64, torch.float64), (torch.float32, torch.float32), (torch.bfloat16, torch.float32)]
)
def test_precision_is_the_modules_but_at_least_single(dtype: torch.dtype, kept: torch.dtype) -> None:
    net = nn.Linear(3, 2).to(dtype)
    noise = gradient_noise(net, square_loss, torch.randn(5, 4, 3, dtype=dtype))
    assert noise["whole_model"].dtype == kept


def test_a_full_gradient_of_half_precision_is_summed_up_in_single() -> None:
    net = nn.Linear(50, 1, bias=False).bfloat16()
    batches = torch.rand(300, 4, 50, generator=torch.Generator().manual_seed(0)).bfloat16()
    minibatches = [Minibatch((batch,), 4, i < 16, in_full_gradient=True) for i, batch in enumerate(batches)]
    group = resolve_grouping("module")
    mean = lambda batch: net(batch).mean()  # noqa: E731
    measured = measured_parameters(net)
    recorder = collect_gradients(
        net, measured, group, minibatches, mean, num_draws=16, max_coordinates=None, seed=0, engine="loop"
    )
    exact = batches.float().mean((0, 1))
    of_half = sum(batches.mean(1), start=torch.zeros(50, dtype=torch.bfloat16)) / 300  # the control
    assert (recorder.full_gradient("weight") - exact).norm() < 1e-3 * exact.norm()
    assert (of_half.float() - exact).norm() > 1e-2 * exact.norm()


def test_an_error_of_the_loss_is_not_shown_as_one_of_the_vectorized_engine(batches: list[Tensor]) -> None:
    def failing(module: nn.Module, batch: Any) -> Tensor:
        raise ArithmeticError("mine")

    with pytest.raises(ArithmeticError, match="mine") as error:
        gradient_noise(nn.Linear(3, 1), failing, batches)
    assert error.value.__context__ is None


def observe(net: nn.Module, batches: list[Tensor], plan: SweepPlan, scale_loss: bool = False) -> NoiseObservation:
    net = copy.deepcopy(net)
    stream = (LoaderBatch(batches[i % len(batches)], len(batches[i % len(batches)])) for i in range(1000))
    recorder = collect_gradients(
        net,
        measured_parameters(net),
        resolve_grouping("module"),
        plan_minibatches(stream, plan),
        lambda batch: square_loss(net, batch),
        num_draws=plan.num_minibatches,
        max_coordinates=None,
        seed=0,
        scale_loss=scale_loss,
    )
    return combine(recorder, Processes())


def test_norms_are_those_of_all_draws_against_the_full_gradient(batches: list[Tensor]) -> None:
    net = nn.Linear(3, 2, bias=False)
    rows = reference(net, batches, "weight")
    group = observe(net, batches, SweepPlan(12, None, 20, batch_size=7)).groups[-1]
    torch.testing.assert_close(group.gradient_norm, rows.mean(0).norm())
    torch.testing.assert_close(group.noise_norm, (rows[:12] - rows.mean(0)).square().sum(1).mean().sqrt())


def test_where_no_minibatch_of_the_full_gradient_had_a_loss_the_mean_of_the_draws_stands_for_it(
    batches: list[Tensor],
) -> None:
    net = nn.Linear(3, 2, bias=False)
    rows = reference(net, batches, "weight")
    stream = [None, *batches]
    recorder = collect_gradients(
        net,
        measured_parameters(net),
        resolve_grouping("module"),
        [Minibatch((batch,), 7, is_draw=True, in_full_gradient=batch is None) for batch in stream],
        lambda batch: None if batch is None else square_loss(net, batch),
        num_draws=len(stream),
        max_coordinates=None,
        seed=0,
    )
    found = combine(recorder, Processes())
    torch.testing.assert_close(found.groups[-1].gradient_norm, rows.mean(0).norm())
    torch.testing.assert_close(found.groups[-1].noise, rows - rows.mean(0), atol=1e-6, rtol=1e-5)
    assert (found.num_draws, found.num_full_minibatches) == (20, 20)


def test_accumulated_batches_are_averaged_as_training_does(batches: list[Tensor]) -> None:
    net = nn.Linear(3, 2, bias=False)
    rows = reference(net, batches, "weight").view(5, 4, -1).mean(1)
    observation = observe(net, batches, SweepPlan(5, None, 20, accumulation=4, batch_size=7))
    torch.testing.assert_close(observation.groups[-1].gradients, rows)
    assert observation.minibatch_size == 28


def test_scaling_the_loss_against_underflow_is_undone_exactly(batches: list[Tensor]) -> None:
    net = nn.Linear(3, 2)
    plain, scaled = (observe(net, batches, SweepPlan(9, 9, 20, batch_size=7), scale) for scale in (False, True))
    assert torch.equal(plain.groups[-1].gradients, scaled.groups[-1].gradients)


def test_draws_that_share_data_are_told(batches: list[Tensor]) -> None:
    net = nn.Linear(3, 2)
    assert not observe(net, batches, SweepPlan(20, None, 20, batch_size=7)).shares_data
    assert observe(net, batches, SweepPlan(21, None, 20, batch_size=7)).shares_data


@pytest.mark.parametrize(("accumulation", "draws"), [(1, 19), (2, 10)])
def test_a_batch_without_a_loss_is_skipped(batches: list[Tensor], accumulation: int, draws: int) -> None:
    net = nn.Linear(3, 2)
    losses = iter([None, *(square_loss(net, batch) for batch in batches[1:])])
    recorder = collect_gradients(
        net,
        measured_parameters(net),
        resolve_grouping("model"),
        plan_minibatches([LoaderBatch(batch) for batch in batches], SweepPlan(20, None, 20, accumulation)),
        lambda _: next(losses),
        num_draws=20,
        max_coordinates=None,
        seed=0,
    )
    assert combine(recorder, Processes()).num_draws == draws


class Unsteady(nn.Module):
    """A layer that only some minibatches reach."""

    def __init__(self) -> None:
        super().__init__()
        self.always, self.sometimes = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.always(x)
        return out + self.sometimes(x) if x[0, 0] > 0 else out


def test_a_layer_that_a_minibatch_does_not_reach_has_a_gradient_of_zero(batches: list[Tensor]) -> None:
    torch.manual_seed(0)
    net = Unsteady()
    rows = []
    for batch in batches:
        (gradient,) = torch.autograd.grad(square_loss(net, batch), [net.sometimes.weight], allow_unused=True)
        rows.append(torch.zeros(6) if gradient is None else gradient.flatten())
    expected = torch.stack(rows)
    assert 0 < int((expected == 0).all(1).sum()) < 20
    noise = gradient_noise(net, square_loss, batches, group_by="parameter")["sometimes.weight"]
    torch.testing.assert_close(noise, expected - expected.mean(0), atol=1e-6, rtol=1e-5)


def test_small_noise_of_large_gradients_is_not_lost_in_rounding(batches: list[Tensor]) -> None:
    net = nn.Linear(3, 2)
    near = [batches[0] + 1e-4 * batch for batch in batches]
    rows = reference(copy.deepcopy(net).double(), [batch.double() for batch in near], "weight")
    exact = (rows - rows.mean(0)).square().sum(1).mean().sqrt()
    measured = observe(net, near, SweepPlan(20, None, 20, batch_size=7))
    weight_and_bias = reference(copy.deepcopy(net).double(), [batch.double() for batch in near], "bias")
    exact = (exact**2 + (weight_and_bias - weight_and_bias.mean(0)).square().sum(1).mean()).sqrt()
    assert float(measured.groups[-1].noise_norm) == pytest.approx(float(exact), rel=1e-2)
    assert not measured.groups[-1].is_rounding


def test_noise_that_is_only_rounding_is_told(batches: list[Tensor]) -> None:
    whole = torch.cat(batches)
    shuffles = [whole[torch.randperm(len(whole), generator=torch.Generator().manual_seed(i))] for i in range(20)]
    group = observe(nn.Linear(3, 2), shuffles, SweepPlan(20, None, 20, batch_size=140)).groups[-1]
    assert 0 < group.noise_norm < 1e-6 * group.gradient_norm
    assert group.is_rounding


@pytest.mark.parametrize("count", [2, 3, 7, 12, 31])
def test_processes_agree_in_spite_of_rounding(count: int) -> None:
    inverse = 1 / count
    mean = lambda own: torch.stack([own] * count).mul(inverse).sum(0)  # noqa: E731 -- as some backends average
    Processes(count, mean).agree(None, 5001)
    with pytest.raises(ValueError, match="own"):
        Processes(count, mean).agree(ValueError("own"), 0)


@pytest.mark.parametrize("other", [[0.0, 0.0, 0.0], [1.0, 63.0, 63.0**2]])
def test_a_process_that_differs_from_another_stops(other: list[float]) -> None:
    mean = lambda own: (own + torch.tensor(other, dtype=own.dtype)) / 2  # noqa: E731
    with pytest.raises(OtherProcessError):
        Processes(2, mean).agree(None, 64)


@pytest.mark.parametrize("engine", ["loop", "vectorized", "auto"])
def test_a_loss_of_several_numbers_is_refused(engine: Any) -> None:
    data = [(torch.randn(8, 3), torch.randn(8, 1)) for _ in range(20)]
    loss = lambda module, batch: (module(batch[0]) - batch[1]).square()  # noqa: E731
    with pytest.raises(ValueError, match=r"the loss to measure must be one number, got shape \(8, 1\)"):
        gradient_noise(nn.Linear(3, 1), loss, data, engine=engine)
