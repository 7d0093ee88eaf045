"""SGD on least squares, run: many independent chains at once."""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from torch import Tensor

from ._checks import checked_count, checked_positive, checked_training
from .exponents import critical_step_size, lyapunov_exponent

__all__ = ["simulate"]

_LARGEST_DRAW = 1 << 22  # input coordinates drawn at once: 16 MiB in single precision
_FEWEST_STEPS = 500
_DECAY = 25.0  # exp(-25) of where a chain started is left


def simulate(
    step_size: float,
    batch_size: int,
    dim: int,
    *,
    scale: float = 1.0,
    num_chains: int,
    num_steps: int | None = None,
    noise_scale: float = 1.0,
    generator: torch.Generator | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    r"""Runs SGD on least squares in many independent chains, and returns where they end.

    .. math::
        x_k = x_{k-1} - \frac{\eta}{b} \sum_{i=1}^b a_i (a_i^\top x_{k-1} - \varepsilon_i), \qquad
        a_i \sim \mathcal{N}(0, \sigma^2 I_d), \quad \varepsilon_i \sim \mathcal{N}(0, \tau^2)

    Each step of each chain draws a minibatch of new samples. The solution is the origin, where the chains start: x is
    what was learnt minus what there was to learn. Rows are independent, so ``hill(x.norm(dim=1))`` estimates the tail
    index that ``tail_index`` computes, and its interval holds. The largest iterates may overflow where the index is far
    below 1, in single precision from about 1e38 on: they are then infinite or NaN.

    Args:
        step_size: Step size :math:`\eta`, positive, as in ``lyapunov_exponent``.
        batch_size: Samples in a minibatch, b, 1 or more.
        dim: Number of coordinates, d, 1 or more.
        scale: Standard deviation :math:`\sigma` of the inputs, positive.
        num_chains: Number of chains, 1 or more. They are run in blocks, so memory beside the result is bounded.
        num_steps: Steps that each chain takes, 1 or more. None takes the larger of 500 and 25 over the absolute value
            of the Lyapunov exponent, after which the start is forgotten; there is no limit to it where that nears 0.
        noise_scale: Standard deviation :math:`\tau` of the labels' noise, positive, in the unit of the iterates times
            that of the inputs.
        generator: Where random numbers come from; None: torch's own.
        device: Where to compute; None: where the generator is, or torch's default.
        dtype: Real floating point type; None: torch's default.

    Returns:
        The last iterates, of shape ``[num_chains, dim]``.

    Raises:
        TypeError: If ``dtype`` is not real floating point.
        ValueError: If an argument lies outside its range, or the Lyapunov exponent is 0 or above: there is no
            stationary law then, and what an estimator reads from the iterates is not its tail index.

    References:
        Gürbüzbalaban, Şimşekli, Zhu, The Heavy-Tail Phenomenon in SGD, ICML 2021, arXiv:2006.04740.

    Example:
        >>> generator = torch.Generator().manual_seed(0)
        >>> simulate(0.5, batch_size=1, dim=2, num_chains=1000, generator=generator).shape
        torch.Size([1000, 2])
    """
    steps = _checked_steps(step_size, batch_size, dim, scale, num_steps)
    checked_count("simulate", num_chains=num_chains)
    checked_positive("simulate", noise_scale=noise_scale)
    dtype = torch.get_default_dtype() if dtype is None else dtype
    if not dtype.is_floating_point:
        raise TypeError(f"simulate needs a real floating point dtype, got {dtype}.")
    if device is None and generator is not None:
        device = generator.device
    iterates = torch.zeros(num_chains, dim, dtype=dtype, device=device)
    kind = iterates.device.type
    with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
        for chains in torch.split(iterates, max(1, _LARGEST_DRAW // int(batch_size * dim))):
            for _ in range(steps):
                _step(chains, step_size / batch_size, batch_size, scale, noise_scale, generator)
    return iterates


def _checked_steps(step_size: float, batch_size: int, dim: int, scale: float, num_steps: int | None) -> int:
    """The number of steps, once it is known that there is a stationary law to reach."""
    checked_training("simulate", step_size, batch_size, dim, scale)
    exponent = lyapunov_exponent(step_size, batch_size, dim, scale)
    if exponent >= 0:
        raise ValueError(
            f"simulate needs a Lyapunov exponent < 0, for there is no stationary law otherwise, got {exponent:.3g} at "
            f"step_size={step_size}; it is 0 at {critical_step_size(batch_size, dim, scale, tail_index=0.0):.6g}."
        )
    if num_steps is None:
        return max(_FEWEST_STEPS, math.ceil(_DECAY / -exponent))
    checked_count("simulate", num_steps=num_steps)
    return num_steps


def _step(
    chains: Tensor, rate: float, batch_size: int, scale: float, noise_scale: float, generator: torch.Generator | None
) -> None:
    """One step of every chain, in place."""

    def draw(last: int) -> Tensor:
        shape = (len(chains), batch_size, last)
        return torch.randn(shape, generator=generator, dtype=chains.dtype, device=chains.device)

    inputs = draw(chains.shape[1]).mul_(scale)
    residual = draw(1).mul_(-noise_scale).baddbmm_(inputs, chains[..., None])
    chains.sub_((inputs.mT @ residual)[..., 0], alpha=rate)
