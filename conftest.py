"""What doctests take for granted, what is not searched for any, and where pictures go."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.figures.reports import sharpness_reports, training

# Importing it, as a search for doctests does, would give this process another device and another torch.Generator.
collect_ignore = ["tests/other_device_work.py"]


@pytest.fixture(autouse=True, scope="session")
def _reports_of_a_training(doctest_namespace: dict[str, Any]) -> None:
    """The figures' doctests draw reports that a monitor would have made."""
    doctest_namespace["reports"] = training()
    doctest_namespace["sharpness_reports"] = sharpness_reports()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Lets `make pictures` say where the browser's pictures go."""
    parser.addoption("--pictures", metavar="FOLDER", help="where tests/browser saves its pictures; nowhere without it")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """Counts no lines in what is marked uncounted: pytest-cov's own mark does nothing in processes of pytest-xdist."""
    counting = sys.gettrace()
    if item.get_closest_marker("uncounted"):
        sys.settrace(None)
    yield
    sys.settrace(counting)
