"""A device of its own without any hardware: its tensors are those of the host behind glass.

Operations refuse to mix them with tensors of the host, as those of a GPU do, but for what torch allows on a GPU:
copies, numbers without a dimension, and indices. Its random numbers are its own. It counts how often the host waits for
a value, or would on a GPU. Registering a device cannot be undone, so this is for a process of
its own. torch's part in it is experimental and not there in older versions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

NAME = "elsewhere"
_MOVES = {"to", "_to_copy"}
_COPIES = _MOVES | {"copy_"}
_TAKES_INDICES = {"index", "index_put", "index_put_", "_index_put_impl_"}
_FACTORIES = ("empty.memory_format", "empty_strided", "arange", "arange.start", "arange.start_step", "randperm", "eye")
_HostGenerator = torch.Generator
_WAITING = {
    *("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "bincount"),
    *("_unique2", "unique_consecutive", "unique_dim_consecutive", "repeat_interleave"),
}


class MixedDevicesError(RuntimeError):
    """Tensors of the host and of the device were given to one operation."""


class Behind(Tensor):
    """A tensor of the host that says that it is elsewhere."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Behind:
        with torch.inference_mode(False):
            out: Any = Tensor._make_wrapper_subclass(
                cls,
                held.shape,
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                device=torch.device(NAME, 0),
            )
        out.held = held
        return out

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            if func is Tensor.tolist:
                module().waits += 1
                return args[0].held.tolist()
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _on_host(func, args, kwargs or {})


def _on_host(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Does an operation with what is held, and puts the result behind glass unless it is to leave."""
    name = operation._schema.name.split("::")[1]
    flat, spec = tree_flatten((args, kwargs))
    _refuse_mixed(name, args, flat)
    inputs = {id(item.held): item for item in flat if isinstance(item, Behind)}
    target = next((item for item in flat if isinstance(item, torch.device)), None)
    if name == "to" and isinstance(args[-1], Tensor) and len(args) > 1:
        target = args[-1].device
    is_leaving = (name in _MOVES and target is not None and target.type == "cpu") or (
        name == "copy_" and not isinstance(args[0], Behind)
    )
    own_args, own_kwargs = tree_unflatten([_host(item) for item in flat], spec)
    own_kwargs |= {"pin_memory": False} if "pin_memory" in own_kwargs else {}
    module().waits += is_leaving or _waits(name, args, kwargs)
    with module().own_random_state() if torch.Tag.nondeterministic_seeded in operation.tags else nullcontext():
        out = operation(*own_args, **own_kwargs)
    if is_leaving:
        return out

    def behind(item: Any) -> Any:
        return inputs.get(id(item), Behind(item)) if isinstance(item, Tensor) else item

    return tree_map(behind, out)


def _is_of_host(item: Any) -> bool:
    return isinstance(item, Tensor) and not isinstance(item, Behind) and item.ndim > 0


def _refuse_mixed(name: str, args: tuple[Any, ...], flat: list[Any]) -> None:
    """Refuses tensors of the host, but where torch allows them on a GPU."""
    values = flat
    if name in _COPIES:
        values = []
    elif name in _TAKES_INDICES:  # indices of the host are allowed into what is on the device
        values = [args[0], *args[2:3]]
    host = [tuple(item.shape) for item in values if _is_of_host(item)]
    if host:
        raise MixedDevicesError(f"{name}: expected all tensors on {NAME}, found on the host {host}")


def _waits(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the host waits for what an operation finds, for example how many values a mask selects."""
    if name in _TAKES_INDICES:
        return any(isinstance(index, Tensor) and index.dtype == torch.bool for index in args[1])
    if name == "segment_reduce":
        return not kwargs.get("unsafe", False)
    return name in _WAITING


def _host(item: Any) -> Any:
    if isinstance(item, Behind):
        return item.held
    return torch.device("cpu") if isinstance(item, torch.device) else item


class Module:
    """What ``torch.elsewhere`` is.

    Attributes:
        waits: How often the host waited for the device.
        random_state: The state of the device's random numbers.
    """

    def __init__(self) -> None:
        self.waits = 0
        self.random_state = _HostGenerator().get_state()

    @contextmanager
    def own_random_state(self) -> Iterator[None]:
        """Lets an operation of the host draw from the device's random numbers."""
        state = torch.get_rng_state()
        torch.set_rng_state(self.random_state)
        try:
            yield
        finally:
            self.random_state = torch.get_rng_state()
            torch.set_rng_state(state)

    def is_initialized(self) -> bool:
        return True

    def is_available(self) -> bool:
        return True

    def _is_in_bad_fork(self) -> bool:
        return False

    def current_device(self) -> int:
        return 0

    def device_count(self) -> int:
        return 1

    def device(self, device: object) -> Any:
        return nullcontext()

    def manual_seed(self, seed: int) -> None:
        self.random_state = _HostGenerator().manual_seed(seed).get_state()

    manual_seed_all = manual_seed

    def get_rng_state(self, device: object = None) -> Tensor:
        return self.random_state

    def set_rng_state(self, state: Tensor, device: object = None) -> None:
        self.random_state = state

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


def module() -> Module:
    """The registered module."""
    return getattr(torch, NAME)  # type: ignore[no-any-return]


class _AnyGenerator(type):
    """Makes generators of the host whatever the device: the kernels cannot tell whose they are."""

    def __call__(cls, device: object = "cpu") -> Any:
        return _HostGenerator()

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _HostGenerator)


class _Generator(metaclass=_AnyGenerator):
    """Stands for ``torch.Generator``."""


def _copy(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    _host(target).copy_(_host(source))
    return target


def _factory(operation: Any) -> Any:
    def make(*args: Any, device: object = None, pin_memory: object = None, **kwargs: Any) -> Behind:
        return Behind(operation(*args, **kwargs))

    return make


def register() -> torch.library.Library:
    """Makes the device known to torch; what is returned has to be kept."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, Module())
    torch.Generator = _Generator  # type: ignore[assignment, misc]
    library = torch.library.Library("aten", "IMPL")
    for name in _FACTORIES:
        overload = name.partition(".")[2] or "default"
        library.impl(name, _factory(getattr(getattr(torch.ops.aten, name.split(".")[0]), overload)), "PrivateUse1")
    library.impl("_copy_from", _copy, "PrivateUse1")
    return library
