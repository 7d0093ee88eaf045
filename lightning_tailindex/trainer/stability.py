"""How large step size times curvature may be."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from lightning_tailindex.noise.reaching import is_a

from .flavour import Trainer
from .optimizer import momentum, step_size

__all__ = ["stability_limit"]


def stability_limit(trainer: Trainer) -> tuple[float, str]:
    r"""Returns what step size times largest eigenvalue must stay below for gradient descent not to diverge.

    On a quadratic, with step size η, momentum β, dampening τ and weight decay μ as ``torch.optim.SGD`` has them, the
    iterates along an eigenvector of the eigenvalue λ stay bounded if

    .. math:: \eta (\lambda + \mu) < 2, \quad
        \eta (\lambda + \mu) < \frac{2 (1 + \beta)}{1 - \tau}, \quad
        \eta (\lambda + \mu) < \frac{2 (1 + \beta)}{1 + 2 \beta}

    without momentum, with it, and with Nesterov's. What is returned is the right side minus :math:`\eta \mu`, the least
    of all parameter groups; infinity for a dampening of 1, by which gradients move nothing after the first step.

    Args:
        trainer: The trainer.

    Returns:
        The limit, and a note: NaN for optimizers that rescale gradients, whose limit is not of the loss's own Hessian,
        for those that maximize, and for a dampening above 1 or a group without a step size, for which there is none.

    References:
        Cohen, Kaur, Li, Kolter, Talwalkar (2021). Gradient Descent on Neural Networks Typically Occurs at the Edge of
        Stability. ICLR, arXiv:2103.00065.
    """
    if all(is_a(optimizer, "_MockOptimizer") for optimizer in trainer.optimizers):  # Lightning's, where there is none
        return math.nan, "there is no limit of stability for the step size where Lightning knows no optimizer"
    others = [type(optimizer).__name__ for optimizer in trainer.optimizers if not is_a(optimizer, "SGD")]
    if others:
        name = ", ".join(dict.fromkeys(others))
        return math.nan, f"there is no limit of stability for the step size of {name}, which rescales gradients"
    groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    if any(group.get("maximize", False) for group in groups):
        why = "it ascends, and the limit is one of descent"
        return math.nan, f"there is no limit of stability for an SGD that maximizes: {why}"
    limits = [_limit(group) for group in groups]
    if any(map(math.isnan, limits)):
        return math.nan, "there is no limit of stability for an SGD that dampens by more than 1 or has no step size"
    return min(limits, default=math.nan), ""


def _limit(group: Mapping[str, Any]) -> float:
    """The limit of one group, which of another class named SGD need not have all that torch's has."""
    beta, passed, limit = momentum(group), 1 - float(group.get("dampening") or 0), 2.0
    if group.get("nesterov", False):
        limit *= (1 + beta) / (1 + 2 * beta)
    elif beta and passed > 0:
        limit *= (1 + beta) / passed
    elif beta:
        limit = math.inf if passed == 0 else math.nan
    return limit - step_size(group) * float(group.get("weight_decay") or 0)
