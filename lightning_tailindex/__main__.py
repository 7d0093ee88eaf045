"""``python -m lightning_tailindex`` is the command ``lightning-tailindex``."""

from __future__ import annotations

import sys

from .report.cli import main

sys.exit(main())
