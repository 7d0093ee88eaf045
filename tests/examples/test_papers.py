"""The papers' experiments as a user runs them, in their quick variants, and the nets and numbers behind them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from examples.papers.averages import main as averages
from examples.papers.draw import main as draw
from examples.papers.nets import Classifier, FullyConnected, LeNet, linear_hinge
from examples.papers.published import Pooled
from examples.papers.term_paper import main as term_paper
from lightning_tailindex.distributions import SymmetricStable
from lightning_tailindex.functional import group_sum, grouped_mle
from lightning_tailindex.functional.surrogate import gaussian_surrogate
from tests.examples.test_cifar10 import write_cifar10
from tests.examples.test_data import write_idx
from tests.forked import script

ROOT = Path(__file__).parents[2]
PAPERS = ROOT / "examples" / "papers"


def mnist(folder: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    write_idx(folder / "t10k-images-idx3-ubyte", torch.randint(256, (400, 28, 28), generator=generator))
    write_idx(folder / "t10k-labels-idx1-ubyte", torch.randint(10, (400,), generator=generator))


DATA: dict[str, tuple[str, Callable[[Path], None] | None]] = {
    "1901.06053": ("digits", None),
    "galkin_2021": ("digits", None),
    "galkin_2021_lenet": ("digits", None),
    "1910.09626": ("MNIST-10k", mnist),
    "2006.04740": ("digits", None),
    "2006.04740_conv": ("CIFAR-10", write_cifar10),
}
FURTHER = {  # tags that an experiment has beside those of all
    "1901.06053": [f"tail_index_detail/{name}/whole_model" for name in ("published", "published_surrogate")],
    "galkin_2021": [f"tail_index_detail/group_sum{end}/fc3" for end in ("", "_gaussian")],
    "galkin_2021_lenet": [f"tail_index_detail/group_sum/{layer}" for layer in ("conv1", "conv2", "fc1", "fc2")],
    "1910.09626": [f"gradient_noise/shapiro_wilk_acceptance{end}/conv1" for end in ("", "_gaussian")],
    "2006.04740": ["sgd/step_size_over_minibatch_size/SGD", "iterate_tail_index/fc3"],
    "2006.04740_conv": ["sgd/step_size_over_minibatch_size/SGD", "iterate_tail_index/conv2"],
}


def config(name: str) -> str:
    return f"--config={PAPERS}/config/{name}.yaml"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quick variant of every experiment, in one process, since starting takes longer than training."""
    folder = tmp_path_factory.mktemp("papers")
    calls: list[list[str]] = []
    for experiment, (name, write) in DATA.items():
        calls.append(["fit", config(experiment), config("quick"), "--trainer.accelerator=cpu"])
        if write is not None:
            write(folder)
            short = name.partition("-10k")[0].lower().replace("-", "")
            calls[-1] += [f"--data.name={short}", f"--data.data_dir={folder}"]
    (folder / "all.py").write_text(f"from run import main\nfor call in {calls!r}: main(call)")
    code, said = script(folder / "all.py", folder=folder, timeout=280)
    assert code == 0, said[-3000:]
    return folder / "runs"


def test_every_experiment_is_tested_and_has_a_sweep() -> None:
    files = {path.stem for path in (PAPERS / "config").glob("*.yaml")}
    assert files == {*DATA, *(f"{name}.sweep" for name in DATA), "quick"}


@pytest.mark.parametrize("experiment", DATA)
def test_an_experiment_logs_what_its_paper_speaks_of(experiment: str, runs: Path) -> None:
    folder = runs / experiment / "version_0"
    events = EventAccumulator(str(folder)).Reload()
    for tag, steps in (
        ("tail_index/whole_model", [0, 32]),
        ("tail_index_gaussian/whole_model", [0, 32]),
        ("tail_index_aggregated/2_minibatches/whole_model", [0, 32]),
        ("iterate_tail_index/whole_model", [16, 32]),
    ):
        assert [event.step for event in events.Scalars(tag)] == steps
    assert {"train/loss", "test/loss", "test/accuracy", *FURTHER[experiment]} <= set(events.Tags()["scalars"])
    hparams = yaml.safe_load((folder / "hparams.yaml").read_text())
    assert (hparams["data"], hparams["seed"]) == (DATA[experiment][0], 0)


def test_tables_and_figures_are_made_of_real_runs(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw([str(runs / "1901.06053"), "-o", str(tmp_path / "new" / "1901.png")])
    assert capsys.readouterr().out.startswith("digits, 1 seeds")
    draw([str(runs / "2006.04740"), "--scalars", "iterate_tail_index/fc3", "no/such", "--steps", "16", "40"])
    logged = EventAccumulator(str(runs / "2006.04740" / "version_0")).Reload().Scalars("iterate_tail_index/fc3")
    told = [f"| all | {step} | {event.value:.3g} | none |" for step, event in zip((16, 40), logged, strict=True)]
    assert capsys.readouterr().out.splitlines()[4:] == told
    against = ["--against", "sgd/step_size_over_minibatch_size/SGD", "--scalars", "iterate_tail_index/fc3"]
    draw([str(runs / "2006.04740"), *against, "-o", str(tmp_path / "new" / "2006.png")])
    assert "| 0.01 |" in capsys.readouterr().out
    averages([str(runs / "1910.09626"), str(runs / "2006.04740"), "-o", str(tmp_path / "new" / "averages.png")])
    assert "| runs/1910.09626 | " in capsys.readouterr().out
    sweeps = {"nets": "galkin_2021", "net": "galkin_2021", "lenet": "galkin_2021_lenet"}
    with pytest.raises(SystemExit, match="2"):
        term_paper([*(f"--{name}={runs / folder}" for name, folder in sweeps.items()), f"--folder={tmp_path}"])
    assert "runs must have a report at step 100, got" in capsys.readouterr().err
    pictures = sorted((tmp_path / "new").glob("*.png"))
    assert [file.stem for file in pictures] == ["1901", "2006", "averages"]
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in pictures)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["no/such"], "folder must hold runs with reports"),
        (["runs", "--only", "width=7"], "folder must hold runs with reports and width=7"),
        (["runs", "--against", "width"], "against needs scalars"),
        (["runs", "--against", "heads", "--scalars", "a/b"], "against must be a number and lines and panels known of"),
        (["runs", "--lines", "width"], "lines and panels need against"),
        (["runs", "--steps", "5"], "steps need scalars"),
        (["runs", "--scalars", "a/b", "-o", "x.png"], "output of scalars needs against"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    arguments: list[str], told: str, runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, *more = arguments
    with pytest.raises(SystemExit, match="2"):
        draw([str(runs / "galkin_2021") if folder == "runs" else folder, *more])
    assert told in capsys.readouterr().err


def test_data_that_are_not_there_end_with_a_message(tmp_path: Path) -> None:
    where = ["--data.name=mnist", f"--data.data_dir={tmp_path}"]
    code, said = script(PAPERS / "run.py", "fit", config("1910.09626"), *where, folder=tmp_path)
    assert code == 2
    assert "load_idx needs t10k-images-idx3-ubyte or" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(("depth", "width"), [(2, 16), (5, 4)])
def test_a_fully_connected_net_has_its_depth_and_width_and_no_biases(depth: int, width: int) -> None:
    net = FullyConnected((1, 28, 28), depth=depth, width=width)
    shapes = {name: tuple(parameter.shape) for name, parameter in net.named_parameters()}
    sizes = [784, *[width] * (depth - 1), 10]
    assert shapes == {f"fc{i + 1}.weight": (sizes[i + 1], sizes[i]) for i in range(depth)}
    assert sum("bias" in name for name, _ in FullyConnected(bias=True).named_parameters()) == 3
    with pytest.raises(ValueError, match=r"depth >= 2 and width >= 1, got depth=1, width=4"):
        FullyConnected(depth=1, width=4)


@pytest.mark.parametrize(("shape", "inputs"), [((1, 28, 28), 400), ((1, 8, 8), 64), ((3, 32, 32), 576)])
def test_lenet_fits_the_images(shape: tuple[int, int, int], inputs: int) -> None:
    net = LeNet(shape)
    assert net(torch.zeros(2, *shape)).shape == (2, 10)
    assert net.get_parameter("fc1.weight").shape == (84, inputs)
    assert [net.get_parameter(f"conv{i}.weight").shape[0] for i in (1, 2)] == [6, 16]


def test_linear_hinge_is_the_obvious_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(5, 10, generator=generator), torch.tensor([3, 0, 9, 3, 1])
    rows = zip(logits, labels, strict=True)
    expected = [max(0.0, 1 - (1 if k == y else -1) * float(z[k])) for z, y in rows for k in range(10)]
    assert float(linear_hinge(logits, labels)) == pytest.approx(sum(expected) / 50, rel=1e-6)


@pytest.mark.parametrize("loss", ["cross_entropy", "linear_hinge"])
def test_a_net_trains_on_the_loss_that_it_was_given(loss: str) -> None:
    net: Classifier = FullyConnected(loss=loss)  # type: ignore[arg-type]
    logits, labels = torch.tensor([[4.0, *[-4.0] * 9]]), torch.tensor([0])
    assert (net.loss(logits, labels) == 0) == (loss == "linear_hinge")  # only a hinge is satisfied


def noise(spread: float) -> torch.Tensor:
    """Independent Gaussians whose scales are lognormal."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(64, 1000, generator=generator) * (spread * torch.randn(1000, generator=generator)).exp()


def test_the_published_number_sums_neighbours() -> None:
    assert Pooled()(noise(2.0), pooled=True).alpha == group_sum(noise(2.0).flatten()).alpha
    assert Pooled()(noise(0.0), pooled=True).alpha == pytest.approx(2, abs=0.2)  # of one scale
    assert Pooled()(noise(2.0), pooled=True).alpha < 1.3  # Gaussian all the same
    assert group_sum(noise(2.0), pooled=True).alpha > 1.8  # across minibatches
    assert Pooled()(noise(2.0), pooled=True).scale.shape == (1000,)
    separate = Pooled()(noise(2.0)).alpha
    torch.testing.assert_close(separate, group_sum(noise(2.0)).alpha, equal_nan=True)


def test_the_published_surrogate_keeps_every_coordinate_in_its_place() -> None:
    surrogate = gaussian_surrogate(noise(2.0), torch.Generator().manual_seed(0))
    assert Pooled(surrogate=True)(noise(2.0), pooled=True).alpha == group_sum(surrogate.flatten()).alpha
    assert Pooled().__name__ != Pooled(surrogate=True).__name__


def test_the_term_paper_s_estimator_ends_at_1_where_the_mean_is_subtracted() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        draws = SymmetricStable(torch.tensor(0.45)).sample((160, 500)).double()
    noise = (draws - draws.mean(0))[:64]  # as the full gradient of 160 minibatches is subtracted from 64 of them
    assert group_sum(draws[:64], pooled=True).alpha == pytest.approx(0.45, abs=0.03)
    assert group_sum(noise, pooled=True).alpha == pytest.approx(0.93, abs=0.05)
    assert grouped_mle(noise, pooled=True).alpha == pytest.approx(0.45, abs=0.03)
