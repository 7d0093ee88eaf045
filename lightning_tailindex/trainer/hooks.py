"""What training does to gradients that a measurement does not."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lightning_tailindex.noise.groups import listed, measured_parameters

from .flavour import LightningModule

__all__ = ["note_on_hooks"]


def note_on_hooks(module: LightningModule, patterns: Iterable[re.Pattern[str]]) -> str:
    """Says which measured parameters have hooks of their own, which may change the gradients that training uses.

    Hooks may write to what training uses, or step an optimizer, so extra minibatches are computed without them.

    Args:
        module: The module in training.
        patterns: Expressions of the parameters' names; none for all.

    Returns:
        A sentence; empty where there are none.
    """
    measured = measured_parameters(module, patterns).items()
    names = [name for name, each in measured if each._backward_hooks or each._post_accumulate_grad_hooks]
    why = "what they do to gradients is not in the noise of extra minibatches"
    return f"hooks on the gradients of {listed(names)} are not run: {why}" if names else ""
