"""Heavy-tailed laws in the form of torch.distributions."""

from __future__ import annotations

from .symmetric_stable import SymmetricStable

__all__ = ["SymmetricStable"]
