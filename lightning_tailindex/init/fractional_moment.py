"""Weights that preserve a fractional moment, for one tensor."""

from __future__ import annotations

import math
import warnings
from numbers import Integral
from typing import Literal

from torch import Generator, Tensor, nn

from ._moments import Unit, relative_moment

__all__ = ["fractional_moment_", "fractional_moment_gain"]

_SLOPES = {"linear": (1.0, 1.0), "relu": (0.0, 0.0), "leaky_relu": (0.01, 0.01), "rrelu": (1 / 8, 1 / 3)}
_SMALLEST, _LARGEST = 1e-100, 1e100  # of the slopes whose squares, and the integral over them, stay finite
_RAREST = 1e-6  # 1 - keep_prob loses the digits of what is rarer, and the gain with them


def fractional_moment_gain(
    width: int,
    s: float,
    nonlinearity: str = "relu",
    a: float | tuple[float, float] | None = None,
    keep_prob: float = 1.0,
) -> float:
    r"""Computes the gain that preserves the moment of order s, as ``torch.nn.init.calculate_gain`` does for s = 2.

    Weights of standard deviation gain / sqrt(fan) preserve it. With Z standard Gaussian and phi the nonlinearity
    followed by dropout,

    .. math::
        \text{gain} = \sqrt{\text{width}} \; \Bigl[ E \Bigl( \sum_{i=1}^{\text{width}} \phi(Z_i)^2 \Bigr)^{s/2}
        \Bigr]^{-1/s} \approx \mu^{-1/2} \Bigl( 1 + \frac{(2 - s) \kappa}{8 \, \text{width}} \Bigr),

    where mu is the mean of the square of phi(Z) and kappa its relative variance. The expectation is computed exactly,
    by one integral over the Laplace transform of phi(Z)^2, in some milliseconds at any width. At s = 2 the gain is
    mu^(-1/2), to the last digit.

    Args:
        width: Number of outputs, at least 1.
        s: Order of the moment, in (0, 2].
        nonlinearity: ``"linear"``, ``"relu"``, ``"leaky_relu"`` or ``"rrelu"``, the leaky one with random slopes.
        a: Slope of the negative side for ``"leaky_relu"``, 0.01 if None; for ``"rrelu"`` the pair of a lower and an
            upper slope, at least 0, between which it is uniform, (1/8, 1/3) if None. The slope, or the upper one, is 0
            or of a size from 1e-100 to 1e100.
        keep_prob: Probability that dropout after the nonlinearity keeps an output, in [1e-6, 1]; 1 is no dropout.

    Returns:
        The gain, without unit.

    Raises:
        TypeError: If ``width`` is not an integer.
        ValueError: If an argument is out of its range, or the gain out of that of floating point: all outputs can be
            0 at once, and the smaller s, the larger the others have to be.

    References:
        Gürbüzbalaban, Hu, Fractional Moment-Preserving Initialization Schemes for Training Deep Neural Networks,
        AISTATS 2021, arXiv:2005.11878. He, Zhang, Ren, Sun, Delving Deep into Rectifiers, ICCV 2015.

    Example:
        >>> round(fractional_moment_gain(64, 1.0) ** 2, 6), round(fractional_moment_gain(64, 2.0) ** 2, 6)
        (2.039824, 2.0)
    """
    unit = _unit(nonlinearity, a, keep_prob)
    if isinstance(width, bool) or not isinstance(width, Integral):
        raise TypeError(f"width must be an integer, got {width!r}.")
    if width < 1:
        raise ValueError(f"width must be at least 1, got {width}.")
    if not 0 < s <= 2:
        raise ValueError(f"s must be in (0, 2], got {s}.")
    try:
        growth = math.exp(-math.log1p(relative_moment(unit, width, s / 2)) / s)
    except OverflowError:
        raise ValueError(
            f"s must be larger for a width of {width} with {nonlinearity!r} and keep_prob={keep_prob}: "
            f"all outputs are 0 so often that no finite gain preserves the moment of order s={s}."
        ) from None
    return growth * math.sqrt(1 / unit.second_moment)


def fractional_moment_(
    tensor: Tensor,
    s: float,
    nonlinearity: str = "relu",
    a: float | tuple[float, float] | None = None,
    keep_prob: float = 1.0,
    mode: Literal["fan_in", "fan_out"] = "fan_in",
    generator: Generator | None = None,
) -> Tensor:
    r"""Fills a tensor, in place, with Gaussian weights that preserve the moment of order s of a layer's signal.

    Weights are N(0, gain^2 / fan), the gain that of :func:`fractional_moment_gain` at a width of ``tensor.size(0)``.
    A layer y = phi(W x) from d to d' coordinates then has, exactly and for every x,

    .. math::
        E \Bigl( \frac{\|y\|}{\sqrt{d'}} \Bigr)^s = \Bigl( \frac{\|x\|}{\sqrt d} \Bigr)^s \text{ (fan-in)}, \qquad
        E \|y\|^s = \|x\|^s \text{ (fan-out)}.

    So ``"fan_in"`` preserves the size of a coordinate through layers of any widths, ``"fan_out"`` the norm. Where d =
    d', the case of the reference, they are one. s = 2 is He's initialization, ``kaiming_normal_`` of the same mode, or
    Xavier's for a square linear layer. It preserves the second moment by few, large outputs while most shrink with
    depth. The smaller s, the larger the weights, and the less a typical output shrinks.

    Of a convolution, x is the patch and y the channels at one position, and for ``"fan_out"``, as in torch, E \|y\|^s
    is divided by the kernel's size to s / 2, since so many patches share each input. Groups see patches of their own:
    there it holds where these are of one norm. A bias has to be 0.

    Args:
        tensor: Weights of shape ``[out, in, ...]``, as of ``nn.Linear`` and ``nn.Conv2d``; of transposed convolutions
            pass ``weight.transpose(0, 1)``. Any floating-point dtype and device.
        s: Order of the moment, in (0, 2].
        nonlinearity: ``"linear"``, ``"relu"``, ``"leaky_relu"`` or ``"rrelu"``, which follows the layer.
        a: Slope of ``"leaky_relu"``, 0.01 if None, or lower and upper slope of ``"rrelu"``, (1/8, 1/3) if None.
        keep_prob: Probability that dropout behind it keeps an output, in [1e-6, 1]; the moment is that in training.
        mode: ``"fan_in"`` or ``"fan_out"``.
        generator: Source of randomness, read as ``torch.nn.init.normal_`` reads it; None is torch's own.

    Returns:
        The tensor itself. Without elements it is left as it is, with a warning, as torch.nn.init does.

    Raises:
        TypeError: If ``tensor`` is not real floating point.
        ValueError: If it has fewer than 2 dimensions, or another argument is out of its range.

    References:
        Gürbüzbalaban, Hu, arXiv:2005.11878, for square layers. He, Zhang, Ren, Sun, Delving Deep into Rectifiers,
        2015. Glorot, Bengio, Understanding the Difficulty of Training Deep Feedforward Neural Networks, 2010.

    Example:
        >>> layer = nn.Linear(784, 100)
        >>> weight = fractional_moment_(layer.weight, s=1.0, nonlinearity="relu")
        >>> bias = nn.init.zeros_(layer.bias)
    """
    if not tensor.is_floating_point():
        raise TypeError(f"fractional_moment_ needs a real floating-point tensor, got {tensor.dtype}.")
    if tensor.dim() < 2:
        raise ValueError(f"fractional_moment_ needs a tensor of at least 2 dimensions, got shape {list(tensor.shape)}.")
    if mode not in ("fan_in", "fan_out"):
        raise ValueError(f"mode must be 'fan_in' or 'fan_out', got {mode!r}.")
    if not tensor.numel():
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=2)
        return tensor
    gain = fractional_moment_gain(tensor.size(0), s, nonlinearity, a, keep_prob)
    fan = tensor.size(1 if mode == "fan_in" else 0) * math.prod(tensor.shape[2:])
    return nn.init.normal_(tensor, 0.0, gain / math.sqrt(fan), generator=generator)


def _unit(nonlinearity: str, a: float | tuple[float, float] | None, keep_prob: float) -> Unit:
    if nonlinearity not in _SLOPES:
        raise ValueError(f"nonlinearity must be one of {', '.join(_SLOPES)}, got {nonlinearity!r}.")
    if not _RAREST <= keep_prob <= 1:
        raise ValueError(f"keep_prob must be in [{_RAREST}, 1], got {keep_prob}.")
    if a is None:
        lower, upper = _SLOPES[nonlinearity]
    elif nonlinearity == "rrelu":
        if not isinstance(a, tuple) or len(a) != 2 or not 0 <= a[0] <= a[1] < math.inf:
            raise ValueError(f"a must be a pair 0 <= lower <= upper of slopes for 'rrelu', got {a!r}.")
        lower, upper = a
    elif nonlinearity == "leaky_relu":
        if isinstance(a, tuple) or not math.isfinite(a):
            raise ValueError(f"a must be one finite slope for 'leaky_relu', got {a!r}.")
        lower = upper = abs(a)  # squares heed no sign
    else:
        raise ValueError(f"a is for 'leaky_relu' and 'rrelu', got a={a!r} for {nonlinearity!r}.")
    if upper and not _SMALLEST <= upper <= _LARGEST:
        raise ValueError(f"a must be 0 or of a size from {_SMALLEST} to {_LARGEST}, got {a!r}.")
    return Unit(lower, upper, keep_prob)
