"""Products with the Hessian are those of the matrix that torch forms."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.functional import hessian
from torch.func import functional_call
from torch.nn.utils.parametrizations import weight_norm as parametrized_weight_norm
from torch.utils.checkpoint import checkpoint

from lightning_tailindex.curvature import Hessian, Restored


def columns(product: Hessian) -> Tensor:
    """The whole matrix, column by column."""
    unit = torch.eye(product.size, dtype=product.dtype)
    return torch.stack([product.product(column)[:-2] for column in unit], 1)


def dense(module: nn.Module, loss: Callable[[Tensor], Tensor], x: Tensor, names: list[str]) -> Tensor:
    """The Hessian of the loss of the module's output as a matrix."""
    parameters = {name: p.detach() for name, p in module.named_parameters()}
    sizes = [parameters[name].numel() for name in names]

    def of(flat: Tensor) -> Tensor:
        pieces = {n: part.view_as(parameters[n]) for n, part in zip(names, flat.split(sizes), strict=True)}
        return loss(functional_call(module, {**parameters, **pieces}, (x,)))

    return hessian(of, torch.cat([parameters[name].flatten() for name in names]))  # type: ignore[no-any-return]


def square(output: Tensor) -> Tensor:
    return output.tanh().square().mean()


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double()


def test_products_are_those_of_the_dense_matrix(x: Tensor) -> None:
    module = net()
    names = [name for name, _ in module.named_parameters()]
    found = columns(Hessian(module.parameters(), [(1.0, lambda: square(module(x)))]))
    torch.testing.assert_close(found, dense(module, square, x, names))
    torch.testing.assert_close(found, found.T)


@pytest.mark.parametrize("norm", [parametrized_weight_norm, nn.utils.weight_norm])
def test_products_through_weight_norms(norm: Callable[[nn.Module], nn.Module], x: Tensor) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the older one says that there is a newer
        module = nn.Sequential(norm(nn.Linear(3, 4)), nn.Tanh(), norm(nn.Linear(4, 2))).double()
    parameters = list(module.parameters())

    def gradient(flat: Tensor) -> Tensor:
        torch.nn.utils.vector_to_parameters(flat, parameters)
        return torch.nn.utils.parameters_to_vector(torch.autograd.grad(square(module(x)), parameters))

    start, step = torch.nn.utils.parameters_to_vector(parameters).detach(), 1e-5
    units = step * torch.eye(len(start), dtype=torch.float64)
    expected = torch.stack([(gradient(start + unit) - gradient(start - unit)) / (2 * step) for unit in units], dim=1)
    torch.nn.utils.vector_to_parameters(start, parameters)
    found = columns(Hessian(parameters, [(1.0, lambda: square(module(x)))]))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-8)


def test_of_some_parameters_it_is_their_block(x: Tensor) -> None:
    module, names = net(), ["2.weight", "0.bias"]
    chosen = [module.get_parameter(name) for name in names]
    found = columns(Hessian(chosen, [(1.0, lambda: square(module(x)))]))
    torch.testing.assert_close(found, dense(module, square, x, names))


def test_losses_are_weighted_and_those_that_are_not_there_left_out(x: Tensor) -> None:
    module = net()
    parts = [(2.0, lambda: square(module(x[:2]))), (9.0, lambda: None), (3.0, lambda: square(module(x[2:])))]
    total = Hessian(module.parameters(), parts).product(torch.ones(26).double())
    first, _, second = (
        columns(Hessian(module.parameters(), [part])) if part[1]() is not None else None for part in parts
    )
    assert first is not None
    assert second is not None
    torch.testing.assert_close(total[:-2], (first + second).sum(1))
    assert total[-1] == 5
    assert total[-2].item() == pytest.approx(2 * square(module(x[:2])).item() + 3 * square(module(x[2:])).item())


def test_what_a_loss_does_not_depend_on_has_zeros(x: Tensor) -> None:
    module, unused, linear = net(), nn.Parameter(torch.ones(2).double()), nn.Parameter(torch.ones(1).double())
    loss = lambda: square(module(x)) + linear.sum()  # noqa: E731
    found = columns(Hessian([unused, *module.parameters(), linear], [(1.0, loss)]))
    assert found[:2].abs().sum() == found[:, :2].abs().sum() == found[-1].abs().sum() == 0
    assert found[2:-1, 2:-1].abs().sum() > 0
    rounded = columns(Hessian([unused, linear], [(1.0, lambda: unused.round().sum() + linear.sum())]))
    assert rounded.abs().sum() == 0
    only = columns(Hessian([linear], [(1.0, lambda: linear.sum())]))
    assert only.tolist() == [[0]]


def test_a_complex_parameter_counts_twice() -> None:
    matrix = torch.tensor([[3.0, 1.0], [1.0, 5.0]])
    z = nn.Parameter(torch.tensor([1 + 2j]))

    def loss() -> Tensor:
        flat = torch.view_as_real(z).flatten()
        return flat @ matrix @ flat / 2

    torch.testing.assert_close(columns(Hessian([z], [(1.0, loss)])), matrix)


def test_a_complex_parameter_may_stand_behind_an_odd_number_of_real_ones() -> None:
    x, z = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(2, dtype=torch.complex64))
    found = columns(Hessian([x, z], [(1.0, lambda: x.square().sum() + 2 * z.abs().square().sum())]))
    torch.testing.assert_close(found, torch.tensor([2.0] * 3 + [4.0] * 4).diag())


def test_attention_has_second_derivatives() -> None:
    torch.manual_seed(0)
    q = nn.Parameter(torch.randn(1, 2, 4, 8))
    loss = lambda: nn.functional.scaled_dot_product_attention(q, q, q).square().sum()  # noqa: E731
    found = columns(Hessian([q], [(1.0, loss)]))
    torch.testing.assert_close(found, found.T, atol=1e-4, rtol=1e-4)
    (gradient,) = torch.autograd.grad(loss(), [q], create_graph=True)
    with pytest.raises(RuntimeError, match="not implemented"):  # the kernel that it takes by itself
        torch.autograd.grad(gradient.sum(), [q])


class Once(torch.autograd.Function):
    """Has a first derivative only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 3 * ctx.saved_tensors[0] ** 2


LEAF = nn.Parameter(torch.ones(3))


class Severed(Once):
    """Has one, too, and does not even say so."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return (gradient * 3 * ctx.saved_tensors[0] ** 2).detach()


BAD = {
    "one derivative, in silence": (lambda: Severed.apply(LEAF).sum(), RuntimeError, "cannot be differentiated twice"),
    "one derivative": (lambda: Once.apply(LEAF).sum(), RuntimeError, "cannot be differentiated twice .*once_differ"),
    "reentrant checkpointing": (
        lambda: checkpoint(lambda x: x**3, LEAF, use_reentrant=True).sum(),
        RuntimeError,
        "incompatible with .grad|not compatible with .grad",
    ),
    "a number": (lambda: 3.0, ValueError, "must be a scalar tensor with a gradient, got 3.0"),
    "no gradient": (lambda: torch.ones(()), ValueError, r"got shape \(\), gradient False"),
    "several": (lambda: LEAF**2, ValueError, r"got shape \(3,\), gradient True"),
    "another": (lambda: torch.ones((), requires_grad=True) * 1, ValueError, "depends on none of the measured"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_loss_that_cannot_be_measured_is_an_error_in_words(name: str) -> None:
    loss, error, words = BAD[name]
    with pytest.raises(error, match=words):
        Hessian([LEAF], [(1.0, loss)]).product(torch.ones(3))


# no parameter stands before the checkpoint, so torch does not complain
HIDDEN: dict[str, Callable[[Any, nn.Module, Any], Tensor]] = {
    "before others": lambda inside, module, head: square(head(inside(module))),
    "alone": lambda inside, module, head: square(inside(module)),
    "with a loss of its own": lambda inside, module, head: (
        square(inside(module)) + square(head(torch.ones(2).double()))
    ),
    "outside as well": lambda inside, module, head: square(inside(module)) + square(module(torch.ones(3).double())),
}


@pytest.mark.parametrize("name", HIDDEN)
def test_parameters_that_reentrant_checkpointing_hides_are_told_of(name: str, x: Tensor) -> None:
    module, head, data = net(), nn.Linear(2, 2).double(), x.clone().requires_grad_()

    def found(reentrant: bool) -> Hessian:
        inside = lambda part: checkpoint(part, data, use_reentrant=reentrant)  # noqa: E731
        return Hessian([*module.parameters(), *head.parameters()], [(1.0, lambda: HIDDEN[name](inside, module, head))])

    with pytest.raises(RuntimeError, match="checkpointing hides parameters; with use_reentrant=False"):
        found(True).product(torch.ones(found(True).size).double())
    assert all(parameter.grad is None for parameter in (*module.parameters(), *head.parameters()))
    assert found(False).product(torch.ones(found(False).size).double())[:-2].any()


@pytest.mark.parametrize("is_frozen", [True, False])
def test_reentrant_checkpoints_of_what_is_not_measured_are_no_matter(is_frozen: bool, x: Tensor) -> None:
    backbone, head = net().requires_grad_(not is_frozen), nn.Linear(2, 2).double()
    data = x.clone().requires_grad_()

    def found(reentrant: bool) -> Tensor:
        loss = lambda: square(head(checkpoint(backbone, data, use_reentrant=reentrant)))  # noqa: E731
        return columns(Hessian(head.parameters(), [(1.0, loss)]))

    torch.testing.assert_close(found(True), found(False))


def test_checkpointing_without_reentrance_works(x: Tensor) -> None:
    module = net()
    plain = columns(Hessian(module.parameters(), [(1.0, lambda: square(module(x)))]))
    loss = lambda: square(checkpoint(module, x, use_reentrant=False))  # noqa: E731
    torch.testing.assert_close(columns(Hessian(module.parameters(), [(1.0, loss)])), plain)


def test_gradients_of_the_parameters_are_left_alone(x: Tensor) -> None:
    module = net()
    Hessian(module.parameters(), [(1.0, lambda: square(module(x)))]).product(torch.ones(26).double())
    assert all(parameter.grad is None for parameter in module.parameters())


class Moving(nn.Module):
    """Changes a buffer, replaces another and writes a frozen parameter in each pass."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("average", torch.zeros(2))
        self.register_buffer("count", torch.zeros(()))
        self.register_buffer("nothing", None)
        self.teacher = nn.Parameter(torch.zeros(2), requires_grad=False)
        self.student = nn.Parameter(torch.ones(2))

    def forward(self) -> Tensor:
        assert isinstance(self.average, Tensor)
        self.average.add_(1)
        self.count = self.count + 1
        self.teacher.lerp_(self.student.detach(), 0.5)
        return self.student.sum() + self.average.sum() + self.count + self.teacher.sum()


def test_passes_of_a_restored_module_are_the_same() -> None:
    module = Moving()
    restore = Restored(module)
    outputs = []
    for _ in range(3):
        restore()
        assert module.student.grad is None
        output = module()
        output.backward()
        outputs.append(output.item())
    assert outputs == [2 + 2 + 1 + 1] * 3
    assert module().item() > outputs[0]  # the control: without it they are not
    assert re.match("average|count", next(name for name, _ in module.named_buffers()))


class Observing(nn.Module):
    """Gives its buffer a shape in the first pass, as observers of quantization do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("largest", torch.zeros(0))

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.largest, Tensor)
        if self.largest.numel() == 0:
            self.largest.resize_(x.shape).copy_(x)
        return x + self.largest.sum()


def test_a_buffer_that_got_its_shape_in_a_pass_is_restored() -> None:
    module = Observing()
    restore = Restored(module)
    outputs = []
    for scale in (1.0, 2.0):
        restore()
        outputs.append(module(torch.full((3,), scale)).tolist())
    assert outputs == [[4.0] * 3, [8.0] * 3]
    restore()
    assert module.largest.shape == (0,)


@pytest.mark.parametrize("inner", [lambda loss: None, Tensor.backward], ids=["the control", "backward"])
def test_what_a_loss_leaves_in_the_gradients_is_in_no_product(x: Tensor, inner: Callable[[Tensor], None]) -> None:
    module = net()
    names = [name for name, _ in module.named_parameters()]

    def loss() -> Tensor:
        inner(square(module(x + 1)))
        return square(module(x))

    hessian = Hessian(module.parameters(), [(1.0, loss), (2.0, loss)])
    torch.testing.assert_close(columns(hessian), 3 * dense(module, square, x, names))
    assert all(parameter.grad is None for parameter in module.parameters())
