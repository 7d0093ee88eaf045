"""Tail index, Lyapunov exponent, moments and critical step sizes of SGD on least squares."""

from __future__ import annotations

import math

from scipy.optimize import brentq

from ._checks import LARGEST_ORDER, checked_count, checked_order, checked_positive, checked_training, contraction
from ._contraction import Contraction

__all__ = ["critical_step_size", "lyapunov_exponent", "moment", "tail_index"]

_LARGEST_LOG = math.log(float.fromhex("0x1.fp1023"))


def lyapunov_exponent(step_size: float, batch_size: int, dim: int, scale: float = 1.0) -> float:
    r"""Returns the Lyapunov exponent: by how much a step changes the logarithm of a distance, on average.

    .. math::
        \rho = \operatorname{E} \log \|M e_1\|, \qquad
        M = I - \frac{\eta}{b} \sum_{i=1}^b a_i a_i^\top, \quad a_i \sim \mathcal{N}(0, \sigma^2 I_d)

    SGD on the mean of :math:`\frac12 (a^\top x - y)^2` steps from x to M x + q. Below 0, distances shrink and the
    iterates have a stationary law; from 0 on they have none, and no tail index. The inputs are isotropic, so every
    direction is shrunk by the same law, and the exponent of a product of steps is that of one. Computed by quadrature
    to some 11 digits, also where the dimension is large and the exponent tiny: against moments of exact arithmetic, the
    errors were below 3e-11 of the exponent at ``critical_step_size``, for dimensions and minibatches up to 1e9.

    Args:
        step_size: Step size :math:`\eta`, positive. Of a loss without the factor ½, as torch's ``MSELoss``, twice
            the step size of the optimizer.
        batch_size: Samples in a minibatch, b, 1 or more.
        dim: Number of coordinates, d, 1 or more.
        scale: Standard deviation :math:`\sigma` of the inputs, positive.

    Returns:
        The exponent, per step.

    Raises:
        ValueError: If an argument lies outside its range.

    References:
        Gürbüzbalaban, Şimşekli, Zhu, The Heavy-Tail Phenomenon in SGD, ICML 2021, arXiv:2006.04740.

    Example:
        >>> round(lyapunov_exponent(0.5, batch_size=1, dim=2), 4), lyapunov_exponent(1.0, batch_size=1, dim=2) > 0
        (-0.1946, True)
    """
    checked_training("lyapunov_exponent", step_size, batch_size, dim, scale)
    return contraction(step_size, batch_size, dim, scale, 0.0).rate(0.0)


def moment(order: float, step_size: float, batch_size: int, dim: int, scale: float = 1.0) -> float:
    r"""Returns a moment of the factor by which a step stretches a vector, h(s).

    .. math::
        h(s) = \operatorname{E} \|M e_1\|^s
             = \operatorname{E} \bigl[(1 - cX)^2 + c^2 X Y\bigr]^{s/2}, \qquad
        c = \frac{\eta \sigma^2}{b}, \quad X \sim \chi^2_b, \quad Y \sim \chi^2_{d-1}

    It starts from h(0) = 1 with the Lyapunov exponent as its slope, and its logarithm is convex in s. So where that
    exponent is below 0, h falls below 1 and returns to it once: at the tail index. X is the squared length of
    :math:`A e_1 / \sigma`, A the minibatch as a matrix with a row for each sample. With Y it is what
    :math:`A^\top A e_1` consists of, along :math:`e_1` and across. In one dimension there is no Y.

    Args:
        order: Order s, 0 to 100.
        step_size: Step size :math:`\eta`, positive, as in ``lyapunov_exponent``.
        batch_size: Samples in a minibatch, b, 1 or more.
        dim: Number of coordinates, d, 1 or more.
        scale: Standard deviation :math:`\sigma` of the inputs, positive.

    Returns:
        The moment; infinity where it is beyond the range of floats.

    Raises:
        ValueError: If an argument lies outside its range.

    References:
        Gürbüzbalaban, Şimşekli, Zhu, The Heavy-Tail Phenomenon in SGD, ICML 2021, arXiv:2006.04740, for h. That it
        is an expectation over two independent variables was derived for this package.

    Example:
        >>> round(moment(2.0, 0.5, batch_size=1, dim=2), 6), moment(1.0, 0.5, batch_size=1, dim=2) < 1
        (1.0, True)
    """
    checked_training("moment", step_size, batch_size, dim, scale)
    checked_order("moment", order=order)
    order = float(order)  # NumPy's and torch's single precision would be the result's
    log_moment = order * contraction(step_size, batch_size, dim, scale, order).rate(order)
    return math.exp(log_moment) if log_moment < _LARGEST_LOG else math.inf


def tail_index(step_size: float, batch_size: int, dim: int, scale: float = 1.0) -> float:
    r"""Returns the tail index of the iterates of SGD on least squares, as theory gives it.

    .. math::
        h(\alpha) = \operatorname{E} \|M e_1\|^\alpha = 1, \quad \alpha > 0

    Iterates x are multiplied by random matrices M and moved by noise. Once in a while a minibatch stretches instead
    of shrinking, and a row of these makes an iterate large: P(\|x\| > t) falls like t to the -alpha, however light
    the tails of inputs and noise are. The index falls with the step size, the scale of the inputs and the dimension,
    and rises with the minibatch size. Step size and scale enter as :math:`\eta \sigma^2`. Unlike the index of a
    stable law, it may exceed 2: then the variance of the iterates is finite.

    In large dimensions step sizes of all tail indices lie close to each other: there, and where minibatches are large,
    a step size larger by a part of :math:`\delta` has a tail index smaller by about
    :math:`\delta (d + b)^2 / (2 b + 4)`. That of the given number is computed to some 10 digits, but it may not be the
    number that was meant: rounding it in double precision changes the tail index by up to 2e-5 with b = 1 in a million
    dimensions, by 2e-3 in ten million, and by more than any index from some billion on.

    Args:
        step_size: Step size :math:`\eta`, positive, as in ``lyapunov_exponent``.
        batch_size: Samples in a minibatch, b, 1 or more.
        dim: Number of coordinates, d, 1 or more.
        scale: Standard deviation :math:`\sigma` of the inputs, positive.

    Returns:
        The tail index. NaN where the Lyapunov exponent is 0 or above; there is no stationary law, though estimators
        would still read some number from the iterates.

    Raises:
        ValueError: If an argument lies outside its range, or the tail index is above 100.

    References:
        Gürbüzbalaban, Şimşekli, Zhu, The Heavy-Tail Phenomenon in SGD, ICML 2021, arXiv:2006.04740.
        Kesten, Random Difference Equations and Renewal Theory for Products of Random Matrices, Acta Mathematica 131,
        1973.

    Example:
        >>> [round(tail_index(step, batch_size=5, dim=1), 3) for step in (1.0, 1.2, 1.6, 3.0)]
        [4.199, 2.955, 1.485, nan]
    """
    checked_training("tail_index", step_size, batch_size, dim, scale)
    largest = 1.0
    while True:
        law = contraction(step_size, batch_size, dim, scale, largest)
        if law.rate(0.0) >= 0:
            return math.nan
        if law.rate(largest) >= 0:
            break
        if largest == LARGEST_ORDER:
            raise ValueError(
                f"tail_index computes tail indices up to {LARGEST_ORDER:g}, got step_size={step_size}, where it is "
                f"larger with batch_size={batch_size}, dim={dim}, scale={scale}."
            )
        largest = min(2 * largest, LARGEST_ORDER)
    # log h(s) / s rises with s from the exponent on, and crosses zero once
    return float(brentq(law.rate, 0.0, largest, xtol=1e-12, rtol=1e-12))


def critical_step_size(batch_size: int, dim: int, scale: float = 1.0, tail_index: float = 2.0) -> float:
    r"""Returns the step size at which the iterates have a given tail index.

    .. math::
        \eta_2 = \frac{2 b}{\sigma^2 (d + b + 1)}

    is that of 2, from which on the variance of the iterates is infinite. Others are found as roots. That of 0 is where
    the Lyapunov exponent is 0: from it on, there is no stationary law. All of them are right but for rounding, which
    matters in large dimensions, as ``tail_index`` says.

    Args:
        batch_size: Samples in a minibatch, b, 1 or more.
        dim: Number of coordinates, d, 1 or more.
        scale: Standard deviation :math:`\sigma` of the inputs, positive.
        tail_index: The tail index, 0 to 100.

    Returns:
        The step size, as in ``lyapunov_exponent``.

    Raises:
        ValueError: If an argument lies outside its range.

    References:
        Gürbüzbalaban, Şimşekli, Zhu, The Heavy-Tail Phenomenon in SGD, ICML 2021, arXiv:2006.04740.

    Example:
        >>> round(critical_step_size(batch_size=5, dim=2), 6)
        1.25
        >>> round(critical_step_size(batch_size=5, dim=2, tail_index=1.5), 4)
        1.3615
    """
    checked_count("critical_step_size", batch_size=batch_size, dim=dim)
    checked_positive("critical_step_size", scale=scale)
    checked_order("critical_step_size", tail_index=tail_index)

    scale, tail_index = float(scale), float(tail_index)
    b, size = int(batch_size), int(dim) + int(batch_size) + 1
    second = 2 * b / size

    def rate(excess: float) -> float:
        return Contraction(2 * (1 + excess) / size, excess, b, int(dim), tail_index).rate(tail_index)

    low = high = 0.0
    if tail_index != 2:
        # in parts of the step size of 2, about what changes the tail index by 1 where b or d is large
        width = min(0.5, 2 * (b + 2) / size**2)
        step = width
        while rate(low) >= 0:
            low, step = max(low - step, (low - 1) / 2), 2 * step
        step = width
        while rate(high) < 0:
            high, step = high + step, 2 * step
        low = float(brentq(rate, low, high, xtol=1e-12 * width, rtol=1e-12))
    step_size = (second + second * low) / scale / scale
    if not 0 < step_size < math.inf:
        raise ValueError(f"critical_step_size needs 1 / scale^2 in the range of floats, got scale={scale}.")
    return step_size
