"""Weights that preserve a fractional moment, for a whole module."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeGuard, TypeVar

from torch import Generator, nn
from torch.nn.parameter import is_lazy
from torch.nn.utils.parametrize import is_parametrized

from .fractional_moment import fractional_moment_gain

__all__ = ["init_module_"]

ModuleT = TypeVar("ModuleT", bound=nn.Module)
Weighted: TypeAlias = (
    nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_WEIGHTED = (nn.Linear, *_CONVOLUTIONS, *_TRANSPOSED)
_DROPOUT = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_NORMS = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(nn.LazyBatchNorm1d, nn.LazyBatchNorm2d, nn.LazyBatchNorm3d),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
    *(nn.LazyInstanceNorm1d, nn.LazyInstanceNorm2d, nn.LazyInstanceNorm3d),
    *(nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm, nn.CrossMapLRN2d),
    *(nn.AlphaDropout, nn.FeatureAlphaDropout),  # these keep mean and variance, and zero nothing
)
_POOLS = (  # not LPPool: it leaves no sign to the activation behind it
    *(nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
    *(nn.FractionalMaxPool2d, nn.FractionalMaxPool3d),
)
_PADS = (
    *(nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d),  # ZeroPad is one
    *(nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
    *(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
    *(nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d),
)
_SHAPES = (
    *(nn.Identity, nn.Flatten, nn.Unflatten, nn.Fold, nn.Unfold),
    *(nn.Upsample, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle),
)
_PASSED_OVER = (*_NORMS, *_POOLS, *_PADS, *_SHAPES)
_SOFTMAX = (nn.Softmax, nn.Softmax2d, nn.Softmin, nn.LogSoftmax)


@dataclass(frozen=True)
class _Follower:
    """What comes behind a layer: the first arguments of the gain, and the dropout."""

    nonlinearity: str
    a: float | tuple[float, float] | None = None
    keep_prob: float = 1.0


def init_module_(
    module: ModuleT,
    s: float,
    nonlinearity: str | None = None,
    a: float | tuple[float, float] | None = None,
    keep_prob: float = 1.0,
    generator: Generator | None = None,
) -> ModuleT:
    """Initializes every linear and convolutional layer of a module so that the moment of order s is preserved.

    Each weight is N(0, gain^2 / fan_in), as :func:`fractional_moment_` fills it, each bias 0. The gain is for what
    follows the layer. In an ``nn.Sequential``, ones within it included, that can be told:

    - ReLU, LeakyReLU, PReLU (at its initial slope) or RReLU: that one. In between, identity, normalization,
      AlphaDropout, pooling by maximum or mean, padding, upsampling and what only rearranges are passed over.
    - Another layer, softmax, or the end: linear.
    - Dropout on the way to the next layer: it counts, with a keep probability of 1 - p, whether before or behind
      the nonlinearity.

    What stands elsewhere, or before a module that is none of these, is as ``nonlinearity``, ``a`` and ``keep_prob``
    say. An activation called in ``forward`` cannot be seen: a Sequential whose result goes through one ends linear.
    Other parameters, of attention with the layers in it, of recurrence, embedding (layers tied to one, too) or
    normalization, stay as they are. Of transposed convolutions fan_in is what one output sees on average: channels
    times kernel size over stride. A weight without elements is passed over with a warning, as in torch.nn.init.

    Args:
        module: The module, such as a LightningModule in its ``__init__`` or ``configure_model``.
        s: Order of the moment, in (0, 2]; 2 is He's initialization.
        nonlinearity: ``"linear"``, ``"relu"``, ``"leaky_relu"`` or ``"rrelu"``, where it cannot be told.
        a: Its slope, or lower and upper slope, as for :func:`fractional_moment_`.
        keep_prob: Probability that dropout behind it keeps an output, in [1e-6, 1].
        generator: Source of randomness, read layer by layer in the order of ``module.modules()``.

    Returns:
        The module itself.

    Raises:
        ValueError: If an argument is out of its range; if there is no such layer; if ``nonlinearity`` is None and for
            some layer it cannot be told; if a layer's weight or bias is lazy, or not a parameter of its own since it
            is parametrized, pruned, or normalized by ``weight_norm`` or ``spectral_norm``, so that it cannot be
            filled. Nothing is changed then.

    References:
        Gürbüzbalaban, Hu, arXiv:2005.11878.

    Example:
        >>> net = nn.Sequential(nn.Linear(64, 100), nn.ReLU(), nn.Linear(100, 10))
        >>> net = init_module_(net, s=1.0)  # the first layer for its ReLU, the last one linear
    """
    fractional_moment_gain(1, s, "linear")  # what is wrong with the order is said first
    told = dict(_told(module))
    named = list(_layers(module))
    if not named:
        raise ValueError(f"init_module_ needs a module with a linear or convolutional layer, got {module}.")
    untold = [name for name, layer in named if told.get(layer) is None]
    if untold and nonlinearity is None:
        unknown = ", ".join(untold)
        raise ValueError(
            f"init_module_ needs nonlinearity for what follows {unknown}, got None: only an nn.Sequential tells it, by"
            " a kind of ReLU, a softmax, another layer, or its end."
        )
    otherwise = _Follower(nonlinearity or "linear", a, keep_prob)
    fractional_moment_gain(1, 2.0, otherwise.nonlinearity, a, keep_prob)  # refused even where no layer needs it
    deviations = [_deviation(name, layer, s, told.get(layer) or otherwise) for name, layer in named]
    for (name, layer), deviation in zip(named, deviations, strict=True):
        if deviation is None:
            shape = list(layer.weight.shape)
            message = f"Initializing zero-element tensors is a no-op: the weight of {name} has shape {shape}."
            warnings.warn(message, stacklevel=2)
        else:
            nn.init.normal_(layer.weight, 0.0, deviation, generator=generator)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    return module


def _layers(module: nn.Module) -> Iterator[tuple[str, Weighted]]:
    """The layers by name, but for those of attention, which starts its ``out_proj`` itself, and embeddings' weights."""
    attention = (part for part in module.modules() if isinstance(part, nn.MultiheadAttention))
    others = {layer for part in attention for layer in part.modules()}
    tied = {id(part.weight) for part in module.modules() if isinstance(part, (nn.Embedding, nn.EmbeddingBag))}
    for name, layer in module.named_modules():
        if isinstance(layer, _WEIGHTED) and layer not in others and id(layer.weight) not in tied:
            yield name or "the module", layer


def _told(module: nn.Module) -> Iterator[tuple[nn.Module, _Follower | None]]:
    """The layers in Sequentials with what follows them; None where that is a module of an unknown kind."""
    if _is_sequential(module):
        chain = list(_flattened(module))
        for place, layer in reversed(list(enumerate(chain))):  # of a layer that comes twice, its first place holds
            if isinstance(layer, _WEIGHTED):
                yield layer, _follower(chain[place + 1 :])
            else:
                yield from _told(layer)
    else:
        for child in module.children():
            yield from _told(child)


def _is_sequential(module: nn.Module) -> TypeGuard[nn.Sequential]:
    """A subclass may have a forward of its own, which runs its children in another order."""
    return isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward


def _flattened(module: nn.Module) -> Iterator[nn.Module]:
    if _is_sequential(module):
        for child in module:  # children() would leave out the second place of an activation that is used twice
            yield from _flattened(child)
    else:
        yield module


def _follower(rest: Sequence[nn.Module]) -> _Follower | None:
    found, keep_prob = None, 1.0
    for layer in rest:
        if isinstance(layer, _DROPOUT):
            keep_prob *= 1 - layer.p
        elif isinstance(layer, _WEIGHTED):
            break
        elif not isinstance(layer, _PASSED_OVER):
            activation = _activation(layer)
            if activation is None and found is None:
                return None
            if activation is None or found is not None:
                break
            found = activation
    return replace(found or _Follower("linear"), keep_prob=keep_prob)


def _activation(layer: nn.Module) -> _Follower | None:
    if isinstance(layer, nn.ReLU):
        return _Follower("relu")
    if isinstance(layer, nn.LeakyReLU):
        return _Follower("leaky_relu", layer.negative_slope)
    if isinstance(layer, nn.PReLU):
        return _Follower("leaky_relu", layer.init)
    if isinstance(layer, nn.RReLU):
        return _Follower("rrelu", (layer.lower, layer.upper))
    if isinstance(layer, _SOFTMAX):
        return _Follower("linear")
    return None


def _check_own(name: str, layer: Weighted) -> None:
    """Raises an error unless weight and bias are parameters: others are computed anew from those they are made of."""
    if is_lazy(layer.weight):
        raise ValueError(f"init_module_ needs weights that have a shape, and {name} is lazy: pass it a batch first.")
    own = [key for key, _ in layer.named_parameters(recurse=False)]
    for part, value in (("weight", layer.weight), ("bias", layer.bias)):
        if value is None or part in own:
            continue
        if is_parametrized(layer, part):
            raise ValueError(
                f"init_module_ needs a {part} that can be filled, and {name} is parametrized: do that later."
            )
        sources = ", ".join(key for key in own if key.startswith(part)) or "no parameter"
        raise ValueError(
            f"init_module_ needs a {part} that can be filled, and the {part} of {name} is made of {sources}, "
            "as by pruning, weight_norm or spectral_norm: do that later."
        )


def _deviation(name: str, layer: Weighted, s: float, follower: _Follower) -> float | None:
    """Standard deviation of a layer's weights; None if there are none."""
    _check_own(name, layer)
    if not layer.weight.numel():
        return None
    if isinstance(layer, nn.Linear):
        width, fan_in = layer.out_features, float(layer.in_features)
    else:
        width = layer.out_channels
        fan_in = layer.in_channels / layer.groups * math.prod(layer.kernel_size)
        if isinstance(layer, _TRANSPOSED):
            fan_in /= math.prod(layer.stride)
    try:
        gain = fractional_moment_gain(width, s, follower.nonlinearity, follower.a, follower.keep_prob)
    except ValueError as error:
        raise ValueError(f"init_module_ has no gain for {name}: {error}") from None
    return gain / math.sqrt(fan_in)
