"""The gradients of many minibatches at once: what takes long in a small module is launching, not arithmetic."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn.parameter import is_lazy
from torch.utils._python_dispatch import TorchDispatchMode

from .minibatches import Minibatch
from .random_state import isolated_random_state
from .recorder import flat_gradient
from .sharded import is_sharded
from .stacking import shapes, stacked
from .touched import FoundGradients

__all__ = ["CannotVectorizeError", "Vectorizer", "num_together", "pays"]

_MOST_NUMBERS = 1 << 22
"""Gradient coordinates of one call: more would leave the caches, and arithmetic would take all of the time."""
_MOST_MINIBATCHES = 64
_FEWEST_MINIBATCHES = 4
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
"""With weights for each minibatch they turn into grouped ones, which take longer than one after the other."""

_OF_PROCESSES = ("c10d", "_c10d_functional", "_c10d_functional_autograd")
"""Where torch has what waits for other processes."""


def num_together(measured: Mapping[str, nn.Parameter]) -> int:
    """Counts the minibatches whose gradients are computed at once."""
    size = sum(parameter.numel() for parameter in measured.values())
    return min(_MOST_MINIBATCHES, max(1, _MOST_NUMBERS // max(size, 1)))


def pays(module: nn.Module, measured: Mapping[str, nn.Parameter]) -> bool:
    """Whether a module gains from it: a small one without convolutions. The answer does not depend on the clock."""
    has_convolutions = any(isinstance(part, _CONVOLUTIONS) for part in module.modules())
    return num_together(measured) >= _FEWEST_MINIBATCHES and not has_convolutions


class CannotVectorizeError(RuntimeError):
    """The module does something that cannot be done for many minibatches at once."""


class _Loss(nn.Module):
    """The loss of a batch as a module, whose parameters can be replaced."""

    def __init__(self, module: nn.Module, loss_fn: Callable[[object], Any]) -> None:
        super().__init__()
        self.module = module
        self._loss_fn = loss_fn

    def forward(self, batch: object) -> Tensor:
        loss = self._loss_fn(batch)
        if not isinstance(loss, Tensor) or loss.numel() != 1:
            raise ValueError("a batch has no loss that is one number")
        return loss


class Vectorizer:
    """Computes gradients by ``torch.func``, which refuses what it cannot do with an error.

    Args:
        module: The shadow.
        measured: Its measured parameters by name.
        loss_fn: From a loader batch to its mean loss.

    Raises:
        CannotVectorizeError: If a parameter or buffer has no shape yet, or is sharded.
    """

    def __init__(
        self, module: nn.Module, measured: Mapping[str, nn.Parameter], loss_fn: Callable[[object], Any]
    ) -> None:
        if any(is_lazy(item) for item in (*module.parameters(), *module.buffers())):
            # giving them a shape under torch.func can end the process, not only in an error
            raise CannotVectorizeError("the module has lazy parameters")
        if any(map(is_sharded, measured.values())):
            raise CannotVectorizeError("the module is sharded")
        self._loss = _Loss(module, loss_fn)
        self._measured = tuple(measured.values())
        self._weights = {f"module.{name}": parameter.detach() for name, parameter in measured.items()}

    def check(self, minibatch: Minibatch) -> None:
        """Refuses a loss that depends on what many minibatches would share, because it is called once for them.

        Those are random numbers of Python and NumPy, the number of the batch and what the module counts itself: the
        loss is then another one when it is computed again. Random numbers of torch are drawn anew for each minibatch.
        Refused as well are losses that reach parameters by another way than their names, where they are not replaced,
        that wait for other processes, which would wait for other calls than this one makes, and that write to the
        gradients that a step accumulates, which here are nowhere to be found.

        Args:
            minibatch: A minibatch, of which the gradient is computed twice.

        Raises:
            CannotVectorizeError: If the two differ, Python's or NumPy's random numbers are drawn, parameters are
                reached that were replaced, gradients are written to, or other processes are waited for.
        """
        with _Telling(), _alone_in_the_world():
            shapes(minibatch)  # nested tensors have none, and no stack
            first, second = self._alone(minibatch), self._alone(minibatch)
            # some operations on a GPU add up in another order each time; a net that diverged has no finite gradient
            room = 1e-3 * torch.where(first.isfinite(), first, 0).abs().amax()
            same = (first == second) | ((first - second).abs() <= room) | (first.isnan() & second.isnan())
            if not bool(same.all()):
                raise ValueError("a batch has another loss each time, by its number or a state that the module keeps")

    def _alone(self, minibatch: Minibatch) -> Tensor:
        """The gradient of one minibatch, flat, with the same random numbers of torch each time."""
        weights = {name: weight.detach().requires_grad_() for name, weight in self._weights.items()}
        with isolated_random_state(0, self._measured[0].device):
            before = _other_random_state()
            with _accumulated((*weights.values(), *self._measured), len(minibatch.batches)):
                loss = torch.stack([functional_call(self._loss, weights, (b,)) for b in minibatch.batches]).mean()
            if _other_random_state() != before:
                raise ValueError("random numbers of Python or NumPy would be the same for many minibatches")
            found = torch.autograd.grad(loss, (*weights.values(), *self._measured), allow_unused=True)
        if any(gradient is not None for gradient in found[len(weights) :]):
            raise ValueError("the loss reaches a parameter by another way than its name in the module")
        own = zip(self._measured, found[: len(weights)], strict=True)
        parts = [torch.zeros_like(p) if g is None else g for p, g in own]
        return torch.cat([flat_gradient(part) for part in parts])

    def each(self, minibatches: Sequence[Minibatch]) -> dict[str, Tensor]:
        """Computes the gradient of each minibatch.

        Args:
            minibatches: Minibatches of the same shapes.

        Returns:
            The gradients of each parameter, ``[minibatches, ...]``.
        """
        with _Telling():
            tensors, rebuild = stacked(minibatches)
            loss = self._loss_of(rebuild, is_checked=True)
            found = vmap(grad(loss), in_dims=(None, 0), randomness="different")(self._weights, tensors)
            return self._apart(found, tensors)

    def total(self, minibatches: Sequence[Minibatch], shares: Sequence[float]) -> dict[str, Tensor]:
        """Computes the sum of the gradients of minibatches of the same shapes, each times its share."""
        with _Telling():
            tensors, rebuild = stacked(minibatches)
            loss = self._loss_of(rebuild, is_checked=False)  # here vmap hides it
            weight = next(iter(self._weights.values()))
            factors = torch.tensor(shares, dtype=weight.real.dtype, device=weight.device)

            def weighted(weights: dict[str, Tensor]) -> Tensor:
                losses: Tensor = vmap(loss, in_dims=(None, 0), randomness="different")(weights, tensors)
                return (losses * factors).sum()

            found = grad(weighted)(self._weights)
            return self._apart(found, tensors)

    def _apart(self, gradients: Mapping[str, Tensor], tensors: Sequence[Tensor]) -> dict[str, Tensor]:
        """Gradients to overwrite: two may be one tensor, as those of both biases of a recurrent layer are."""
        taken = {_place(tensor) for tensor in (*self._weights.values(), *tensors)}
        apart = {}
        for name, gradient in gradients.items():
            is_own = _place(gradient) not in taken and gradient.is_contiguous()
            taken.add(_place(gradient))
            apart[name.removeprefix("module.")] = (
                gradient if is_own else gradient.clone(memory_format=torch.contiguous_format)
            )
        return apart

    def _loss_of(
        self, rebuild: Callable[[list[Tensor]], Sequence[object]], *, is_checked: bool
    ) -> Callable[..., Tensor]:
        """The loss of a minibatch, the average over its loader batches, as a function of weights and tensors."""

        def loss(weights: dict[str, Tensor], parts: list[Tensor]) -> Tensor:
            losses = [functional_call(self._loss, weights, (batch,)) for batch in rebuild(parts)]
            if is_checked and not all(loss.requires_grad for loss in losses):
                raise ValueError("a loss has no gradient")
            return torch.stack(losses).mean()

        return loss


def _place(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)  # not its address in memory: some devices have none to tell


def _other_random_state() -> tuple[object, ...]:
    """The global random states that are not torch's, to compare."""
    name, numbers, *rest = np.random.get_state(legacy=True)  # noqa: NPY002 -- what users' transforms draw from
    return random.getstate(), name, np.asarray(numbers).tobytes(), tuple(rest)


class _Lonely(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Refuses to wait for other processes, before it does."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace in _OF_PROCESSES:
            raise ValueError("the loss waits for other processes")
        return func(*args, **(kwargs or {}))


def _alone_in_the_world() -> AbstractContextManager[object]:
    known = torch.distributed.is_available() and torch.distributed.is_initialized()
    return _Lonely() if known and torch.distributed.get_world_size() > 1 else nullcontext()  # type: ignore[no-untyped-call]


@contextmanager
def _accumulated(leaves: Sequence[Tensor], num_batches: int) -> Iterator[None]:
    """Refuses a loss that writes to gradients where a step accumulates them; elsewhere training takes no notice."""
    for leaf in leaves:
        leaf.grad = torch.zeros_like(leaf) if num_batches > 1 else None
    found = FoundGradients(leaves)
    try:
        yield
        if num_batches > 1 and found.are_changed():
            raise ValueError("the loss writes to the gradients that a step accumulates")
    finally:
        for leaf in leaves:
            leaf.grad = None


class _Telling(AbstractContextManager[object]):
    """Turns every error into one kind, by its first sentence; what is really wrong shows again in the loop.

    No generator: from Python 3.12 on, one that turns an error leaves it in a cycle with its frames, and so the shadow
    and what was recorded.
    """

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, frames: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            first, *_ = f"{type(error).__name__}: {error}".splitlines()[0].split(". ")
            raise CannotVectorizeError(first.rstrip(".")) from error
