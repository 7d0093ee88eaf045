"""The monitor from LightningCLI, by YAML and by the command line, with what it is given by class_path."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any, get_args

import docstring_parser
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_tailindex import TailIndexEstimate, TailIndexMonitor, functional
from lightning_tailindex.analysis.estimators import EstimatorName
from lightning_tailindex.noise.groups import GROUPINGS, GroupingName, by_parameter

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Lightning's use of jsonargparse

LIGHTNINGS = ("lightning.pytorch", "pytorch_lightning")
HERE = "tests.callbacks.test_cli"


class FirstParts:
    """Groups parameters by the first parts of their names.

    Args:
        number: How many parts.
    """

    def __init__(self, number: int = 1) -> None:
        self.number = number

    def __call__(self, parameter_name: str) -> str:
        return ".".join(parameter_name.split(".")[: self.number])


class Halved:
    """An estimator of a user's, which knows nothing of the package's types."""

    def __init__(self, factor: float = 0.5) -> None:
        self.factor = factor

    def __call__(self, x, *, pooled=False):  # type: ignore[no-untyped-def]
        return functional.quantile(x * self.factor, pooled=pooled)


def by_initial(parameter_name: str) -> str:
    return parameter_name[0]


def own_estimator(x: Tensor, *, pooled: bool = False) -> TailIndexEstimate:
    return functional.quantile(x, pooled=pooled)


def own_batches(batch_size: int = 2) -> DataLoader:  # its argument, jsonargparse 4.32 does not read
    return DataLoader(TensorDataset(torch.zeros(8, 32)), batch_size)


@pytest.fixture(autouse=True)
def _bare_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])  # Lightning warns of arguments beside its own, such as pytest's


def start(lightning: str, *arguments: str) -> Any:
    cli = import_module(f"{lightning}.cli").LightningCLI
    model = import_module(f"{lightning}.demos.boring_classes").BoringModel
    return cli(model, run=False, save_config_callback=None, seed_everything_default=False, args=list(arguments))


def the_monitor(cli: Any) -> TailIndexMonitor:
    (monitor,) = [callback for callback in cli.trainer.callbacks if isinstance(callback, TailIndexMonitor)]
    return monitor


def write(folder: Path, init_args: str, name: str = "TailIndexMonitor") -> str:
    config = folder / "config.yaml"
    config.write_text(
        "trainer:\n  accelerator: cpu\n  logger: false\n  callbacks:\n"
        f"    - class_path: {name}\n      init_args: {init_args}\n"
    )
    return f"--config={config}"


def from_yaml(folder: Path, init_args: str, lightning: str = LIGHTNINGS[0]) -> TailIndexMonitor:
    return the_monitor(start(lightning, write(folder, init_args)))


@pytest.fixture(params=LIGHTNINGS)
def lightning(request: pytest.FixtureRequest) -> str:
    pytest.importorskip(request.param)
    return str(request.param)


@pytest.mark.parametrize("name", ["TailIndexMonitor", "lightning_tailindex.TailIndexMonitor"])
def test_yaml_finds_it_by_its_bare_name_too(name: str, lightning: str, tmp_path: Path) -> None:
    arguments = "{every_n_steps: 500, group_by: parameter, parameters: [weight], estimators: [hill, group_sum]}"
    monitor = the_monitor(start(lightning, write(tmp_path, arguments, name)))
    assert (monitor.every_n_steps, monitor.settings.num_minibatches) == (500, 64)
    assert monitor.settings.grouping is by_parameter
    assert [pattern.pattern for pattern in monitor.settings.patterns] == ["weight"]
    assert list(monitor._estimators) == ["hill", "group_sum"]


@pytest.mark.parametrize("name", ["TailIndexMonitor", "lightning_tailindex.TailIndexMonitor"])
def test_so_does_the_command_line(name: str, lightning: str) -> None:
    arguments = {"every_n_steps": "500", "estimators": "[hill,quantile]", "group_by": f"{HERE}.FirstParts"}
    options = [f"--trainer.callbacks.{key}={value}" for key, value in {**arguments, "group_by.number": "2"}.items()]
    cli = start(lightning, "--trainer.logger=false", f"--trainer.callbacks={name}", *options)
    monitor = the_monitor(cli)
    assert monitor.every_n_steps == 500
    assert list(monitor._estimators) == ["hill", "quantile"]
    assert monitor.settings.grouping("a.b.c") == "a.b"


@pytest.mark.parametrize(
    ("group_by", "group"),
    [
        ("model", "whole_model"),
        (f"{HERE}.by_initial", "e"),
        (f"{HERE}.FirstParts", "encoder"),
        (f"{{class_path: {HERE}.FirstParts, init_args: {{number: 2}}}}", "encoder.conv1"),
    ],
)
def test_groupings(group_by: str, group: str, tmp_path: Path) -> None:
    monitor = from_yaml(tmp_path, f"{{group_by: {group_by}}}")
    assert monitor.settings.grouping("encoder.conv1.weight") == group


HILL = "{class_path: lightning_tailindex.NamedEstimator, init_args: {name: hill, options: {k: 10}}}"
HALVED = f"{{class_path: {HERE}.Halved, init_args: {{factor: 0.25}}}}"


@pytest.mark.parametrize(
    ("estimators", "names"),
    [
        ("hill", ["hill"]),
        (HILL, ["hill(k=10)"]),
        (HALVED, ["Halved"]),
        ("lightning_tailindex.functional.hill", ["hill"]),
        (f"[quantile, {HILL}, {HALVED}, {HERE}.own_estimator]", ["quantile", "hill(k=10)", "Halved", "own_estimator"]),
    ],
)
def test_estimators(estimators: str, names: list[str], tmp_path: Path) -> None:
    monitor = from_yaml(tmp_path, f"{{estimators: {estimators}}}")
    assert list(monitor._estimators) == names
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))
    expected = {"hill": functional.hill(x), "hill(k=10)": functional.hill(x, k=10)}
    for name, estimator in monitor._estimators.items():
        assert torch.equal(estimator(x).alpha, expected.get(name, functional.quantile(x)).alpha)


def test_a_dataloader_by_the_path_of_what_makes_it(tmp_path: Path) -> None:
    init_args = f"{{dataloader: {{class_path: {HERE}.own_batches, init_args: {{batch_size: 4}}}}}}"
    dataloader = from_yaml(tmp_path, init_args).dataloader
    assert isinstance(dataloader, DataLoader)
    assert dataloader.batch_size == 4


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as caught:
        start(*arguments)
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_what_is_printed_can_be_read_again(lightning: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grouping = f"{{class_path: {HERE}.FirstParts, init_args: {{number: 2}}}}"
    loader = f"{{class_path: {HERE}.own_batches, init_args: {{batch_size: 4}}}}"
    estimators = f"[quantile, {HILL}, {HALVED}, {HERE}.own_estimator]"
    own = write(tmp_path, f"{{seed: 3, group_by: {grouping}, estimators: {estimators}, dataloader: {loader}}}")
    first = printed(capsys, lightning, own, "--print_config")
    assert all(f"\n      {name}: " in first or f"\n      {name}:\n" in first for name in parameters())
    (tmp_path / "again.yaml").write_text(first)
    again = f"--config={tmp_path / 'again.yaml'}"
    assert printed(capsys, lightning, again, "--print_config") == first
    monitor = the_monitor(start(lightning, again))
    assert list(monitor._estimators) == ["quantile", "hill(k=10)", "Halved", "own_estimator"]
    assert (monitor.settings.seed, monitor.settings.grouping("a.b.c")) == (3, "a.b")


def parameters() -> list[str]:
    return list(inspect.signature(TailIndexMonitor).parameters)


def test_help_is_the_documentation(lightning: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = "".join(printed(capsys, lightning, "--trainer.callbacks.help=TailIndexMonitor").split())
    documented = {p.arg_name: p.description for p in docstring_parser.parse(TailIndexMonitor.__doc__ or "").params}
    assert set(parameters()) <= set(documented)
    for name in parameters():
        sentence = documented[name] or ""
        assert f"--trainer.callbacks.{name}" in shown
        assert "".join(sentence.split()) in shown
    assert "Measureshowheavythetails" in shown
    assert "{auto,loop,vectorized}" in shown


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("{every_n_step: 500}", ["'every_n_step'"]),
        ("{every_n_steps: often}", ['"every_n_steps"', "often"]),
        ("{noise_unit: batch}", ['"noise_unit"', "'loader'", "batch"]),
        ("{group_by: parameters}", ['"group_by"', "'parameter'", "parameters"]),
        ("{estimators: hil}", ['"estimators"', "'hill'", "hil"]),
        (f"{{group_by: {{class_path: {HERE}.FirstParts, init_args: {{count: 2}}}}}}", ['"group_by"', "'count"]),
        ("{dataloader: 5}", ['"dataloader"', "DataLoader"]),
        ("{on_error: ignore}", ['"on_error"', "'raise'"]),
    ],
)
def test_a_wrong_name_or_type_is_named(
    arguments: str, named: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        from_yaml(tmp_path, arguments)
    assert caught.value.code == 2
    message = capsys.readouterr().err
    assert all(name in message for name in named)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("{num_minibatches: 3}", "num_minibatches must be an integer of at least 16, got 3"),
        ("{parameters: '('}", "parameters must be regular expressions, got '\\('"),
        ("{estimators: [hill, hill]}", "estimators must be one or several different ones"),
        (f"{{estimators: {HILL.replace('k: 10', 'kk: 10')}}}", "'kk': 10"),
        ("{source: training, noise_unit: loader}", 'noise_unit must be "step"'),
    ],
)
def test_a_wrong_value_is_named(arguments: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=named):
        from_yaml(tmp_path, arguments)


def test_a_wrong_name_in_a_list_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises((SystemExit, ValueError)) as caught:  # jsonargparse 4.32 takes any list, our check does not
        from_yaml(tmp_path, "{estimators: [quantile, hil]}")
    message = capsys.readouterr().err + str(caught.value)
    assert all(part in message for part in ("estimators", "'hill'", "'hil'"))


def test_command_lines_know_every_name() -> None:
    assert get_args(EstimatorName) == tuple(functional.estimators())
    assert get_args(GroupingName) == tuple(GROUPINGS)
