"""What tests of modules that ``fully_shard`` (FSDP2) has sharded need."""

from __future__ import annotations

import pytest
import torch

needs_fully_shard = pytest.mark.skipif(
    torch.__version__ < (2, 9),
    reason="before torch 2.9, fully_shard is missing, fails on CPUs or, over gloo, adds gradients instead of averaging",
)
