"""Imports point down, never up or sideways, and what is private to Lightning's trainer stands in `trainer/` alone."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).parents[1]
PACKAGE = "lightning_tailindex"

# The slot that a module belongs to, its layer, and the third-party packages that it may import.
SLOTS = {
    "records": (0, {"torch"}),
    "kernels": (0, {"torch"}),
    "distributions": (1, {"torch", "numpy"}),
    "functional": (1, {"torch", "numpy", "scipy"}),
    "theory": (1, {"torch", "numpy", "scipy"}),
    "init": (1, {"torch", "scipy"}),
    "metrics": (2, {"torch", "torchmetrics"}),
    "noise": (2, {"torch", "numpy"}),  # numpy for its global random state, which a measurement has to give back
    "curvature": (3, {"torch", "numpy", "scipy"}),
    "iterates": (2, {"torch"}),
    "analysis": (3, {"torch"}),
    "weights": (3, {"torch"}),
    "figures": (3, {"torch", "numpy", "matplotlib"}),
    "loggers": (4, {"torch", "numpy", "matplotlib", "tensorboard"}),  # other loggers bring what they need
    "trainer": (4, {"torch", "lightning", "lightning_utilities"}),
    "callbacks": (5, {"torch"}),  # Lightning by way of trainer/flavour.py, whichever of its two names it has
    "report": (5, {"matplotlib", "tensorboard", "jinja2", "tqdm", "yaml"}),
    "__init__": (6, set()),
    "__main__": (6, set()),
}
SIDEWAYS = {("functional", "distributions"), ("theory", "distributions")}
PARTS_OF_THE_TRAINER = {"trainer", "fit_loop", "epoch_loop", "strategy", "accelerator", "precision_plugin"}


def imported(tree: ast.AST, module: str) -> Iterator[str]:
    """The dotted names that a module imports, the relative ones resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = [node.module] if node.module else []
            if node.level:
                source = module.split(".")[: -node.level] + source
            yield from (".".join([*source, name.name]) for name in node.names)


def complaints(module: str, code: str) -> Iterator[str]:
    """What the code of a module, named `slot.py`, `slot/leaf.py` or `__init__.py`, does against the layers."""
    slot = module.removesuffix(".py").split("/")[0]
    if slot not in SLOTS:
        yield f"{module} belongs to no layer"
        return
    layer, third_party = SLOTS[slot]
    tree = ast.parse(code)
    for name in imported(tree, f"{PACKAGE}/{module.removesuffix('.py')}".replace("/", ".")):
        top, _, rest = name.partition(".")
        other = rest.split(".")[0]
        if top != PACKAGE:
            if top not in sys.stdlib_module_names | third_party:
                yield f"{module} may not import {name}"
        elif other not in SLOTS:
            yield f"{module} imports {name}, which belongs to no layer"
        elif other != slot and SLOTS[other][0] >= layer and (slot, other) not in SIDEWAYS:
            yield f"{module} of layer {layer} imports {name} of layer {SLOTS[other][0]}"
    for node in ast.walk(tree):
        if slot != "trainer" and isinstance(node, ast.Attribute) and re.match(r"_(?!_)", node.attr):
            owner = ast.unparse(node.value)
            if owner.split(".")[-1] in PARTS_OF_THE_TRAINER:
                yield f"{module} reads {owner}.{node.attr}, which trainer/ alone may"


def sources() -> dict[str, str]:
    folder = ROOT / PACKAGE
    return {path.relative_to(folder).as_posix(): path.read_text() for path in sorted(folder.rglob("*.py"))}


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_package_keeps_to_its_layers() -> None:
    modules = sources()
    assert "records/__init__.py" in modules
    assert [complaint for module, code in modules.items() for complaint in complaints(module, code)] == []


@pytest.mark.parametrize(
    ("module", "code", "complaint"),
    [
        ("records.py", "from .trainer import ranks", "of layer 0 imports lightning_tailindex.trainer.ranks of layer 4"),
        ("records.py", "from . import functional", "of layer 0 imports lightning_tailindex.functional of layer 1"),
        ("init.py", f"import {PACKAGE}.distributions", "of layer 1 imports .*distributions of layer 1"),
        ("distributions.py", "from .functional import hill", "of layer 1 imports .*functional.hill of layer 1"),
        ("trainer.py", "def late():\n    from .loggers import emit", "of layer 4 imports .*loggers.emit of layer 4"),
        ("noise/engine.py", "from ..analysis import analyse", "of layer 2 imports .*analysis.analyse of layer 3"),
        ("analysis.py", f"from {PACKAGE} import Report", "imports lightning_tailindex.Report, .* no layer"),
        ("noise/engine.py", "import lightning.pytorch", "noise/engine.py may not import lightning.pytorch"),
        ("noise/__init__.py", "from lightning import Trainer", "may not import lightning.Trainer"),
        ("utils.py", "", "utils.py belongs to no layer"),
        ("callbacks/tail_index.py", "self.trainer._data_connector", "reads self.trainer._data_connector, which"),
        ("callbacks/tail_index.py", "trainer.fit_loop._data_source.instance", "reads trainer.fit_loop._data_source,"),
    ],
)
def test_the_check_finds_what_breaks_the_layers(module: str, code: str, complaint: str) -> None:
    found = list(complaints(module, code))
    assert len(found) == 1
    assert re.search(complaint, found[0])


@pytest.mark.parametrize(
    ("module", "code"),
    [
        ("trainer.py", "trainer._data_connector"),
        ("callbacks/tail_index.py", "self._trainer_seed, trainer.fit_loop.__class__"),
        ("functional/_tables.py", f"from {PACKAGE}.distributions import SymmetricStable"),
        ("noise/engine.py", "import math\nfrom torch import nn\nfrom . import groups\nfrom ..records import Report"),
        ("__init__.py", "from .callbacks import TailIndexMonitor\nfrom . import theory"),
    ],
)
def test_the_check_lets_pass_what_keeps_to_them(module: str, code: str) -> None:
    assert list(complaints(module, code)) == []


# Of what torch.use_deterministic_algorithms refuses on a GPU, in one of the supported versions, what estimators might
# use; and where it is used of integers, on the host, or in place of what would be refused.
REFUSED = {"cumsum", "kthvalue", "histc", "put_"}
HARMLESS = {
    "functional/_checks.py",
    "functional/_scan.py",
    "functional/_stream.py",
    "functional/weight_spectrum.py",
    "noise/coordinates.py",
    "figures/_laws.py",
}


def refused(code: str) -> set[str]:
    calls = (node.func for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call))
    return {call.attr for call in calls if isinstance(call, ast.Attribute)} & REFUSED


def test_a_deterministic_gpu_refuses_nothing() -> None:
    found = {module for module, code in sources().items() if refused(code)}
    assert found == HARMLESS
    assert refused("x.abs().cumsum(0)") == refused("torch.cumsum(x, 0)") == {"cumsum"}


def test_the_version_is_the_same_wherever_it_is_written() -> None:
    cited = re.findall(r"^version: (.+)", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    in_code = re.findall(r'^__version__ = "(.+)"', sources()["__init__.py"], re.MULTILINE)
    assert {*cited, *in_code} == {project()["version"]}


def test_the_lower_bounds_are_the_oldest_versions_that_are_tried() -> None:
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    tried = {name: Version(pin) for name, pin in (line.split("==") for line in lines if not line.startswith("#"))}
    extras = project()["optional-dependencies"]
    requirements = [Requirement(text) for text in project()["dependencies"] + extras["cli"] + extras["examples"]]
    lowest = {
        each.name: Version(spec.version) for each in requirements for spec in each.specifier if spec.operator == ">="
    }
    assert len(lowest) == len(requirements)
    assert lowest == {name: tried[name] for name in lowest}
