"""Initialization that preserves a fractional moment of the signal over the layers, in the manner of torch.nn.init."""

from __future__ import annotations

from .fractional_moment import fractional_moment_, fractional_moment_gain
from .module import init_module_

__all__ = ["fractional_moment_", "fractional_moment_gain", "init_module_"]
