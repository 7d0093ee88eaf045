"""On a device that is not the host everything is what it is on the host, and nothing mixes the two."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from torch.utils import backend_registration

from lightning_tailindex import functional

ROOT = Path(__file__).parents[1]
WORK = [
    *(f"{name}{each}" for name in functional.estimators() for each in ("", ", each")),
    *("law_fit", "law_fit, each", "tests of normality", "surrogate", "spectrum", "stable law"),
    *("metric", "metric, centred", "metric, hill", "gradient_noise", "loop", "vectorized", "every coordinate"),
    *("iterates", "curvature", "training, extra", "training, training"),
]
FAILING = {
    "mixed devices": "MixedDevicesError",
    "index of the host": "MixedDevicesError",
    "random numbers": "training is disturbed",
    "waiting": "the host waits",
}

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason="this torch knows no devices that are written in Python",
)


@pytest.fixture(scope="module")
def complaints() -> dict[str, str]:
    """What went wrong with what, in a process of its own."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "tests.other_device_work"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=160,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found: dict[str, str] = json.loads(run.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("name", WORK)
def test_it_is_what_it_is_on_the_host(name: str, complaints: dict[str, str]) -> None:
    assert complaints[name] == ""


def test_everything_is_tried(complaints: dict[str, str]) -> None:
    assert set(complaints) == {*WORK, *FAILING}


@pytest.mark.parametrize("name", FAILING)
def test_what_has_to_fail_does(name: str, complaints: dict[str, str]) -> None:
    assert FAILING[name] in complaints[name]
