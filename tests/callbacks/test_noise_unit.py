"""What a draw is: what an optimizer step consumes, or one loader batch of one rank."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

from lightning_tailindex import TailIndexMonitor
from tests.forked import in_two_processes

from .noise_unit_ranks import Linear, batches, batches_of_two_kinds, report, samples
from .training_trace import Trace


def fit(monitor: TailIndexMonitor, data: Any = None, **options: Any) -> TailIndexMonitor:
    settings = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    trainer = Trainer(**{**settings, **options}, max_epochs=1, enable_model_summary=False, callbacks=[monitor])
    trainer.fit(Linear(), DataLoader(samples(), batch_size=6, shuffle=True) if data is None else data)
    return monitor


def monitor(**options: Any) -> TailIndexMonitor:
    return TailIndexMonitor(**{"every_n_steps": 4, "num_minibatches": 16, "on_error": "raise", **options})


def whole(numbers: dict[str, Any]) -> dict[str, Any]:
    """What one measurement says of the whole model, in plain numbers."""
    return numbers["measurements"][-1]  # type: ignore[no-any-return]


def test_a_loader_batch_is_measured_as_if_there_were_no_accumulation() -> None:
    by_loader, accumulated = report("loader", accumulation=4), report("step", accumulation=4)
    alone = Trace({**report("step"), "noise_unit": "loader"})
    assert by_loader["minibatch_size"] == 6
    assert Trace(by_loader).differences(alone) == []
    assert accumulated["minibatch_size"] == 24
    assert "measurements" in Trace(accumulated).differences(alone)


def test_accumulation_divides_the_noise_by_its_root() -> None:
    by_loader, by_step = report("loader", accumulation=4), report("step", accumulation=4)
    assert (by_loader["noise_unit"], by_step["noise_unit"]) == ("loader", "step")
    assert (by_loader["num_full_minibatches"], by_step["num_full_minibatches"]) == (32, 8)
    assert whole(by_loader)["noise_norm"] / whole(by_step)["noise_norm"] == pytest.approx(2, rel=0.2)
    assert whole(by_loader)["gradient_norm"] == pytest.approx(whole(by_step)["gradient_norm"], rel=1e-5)


def test_the_overhead_is_counted_in_what_training_consumes(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    options: dict[str, Any] = {"every_n_steps": None, "max_overhead": 2.0, "full_gradient_batches": 32}
    watcher = fit(monitor(noise_unit="loader", **options), accumulate_grad_batches=4)
    assert [each.step for each in watcher.reports] == [0, 4]  # 32 loader batches are 8 steps' worth
    assert "16 draws and a full gradient over 32 loader batches; that is 8 extra minibatch passes" in caplog.text
    assert "2 per training minibatch" in caplog.text
    fit(monitor(**options), accumulate_grad_batches=4)
    assert "16 draws and a full gradient over 8 minibatches; that is 16 extra minibatch passes" in caplog.text


def test_a_stream_is_remembered_for_as_many_batches_as_are_needed() -> None:
    stream = DataLoader(samples(768), batch_sampler=Endless())
    by_loader = fit(monitor(noise_unit="loader"), stream, accumulate_grad_batches=4)
    by_step = fit(monitor(), stream, accumulate_grad_batches=4)
    assert [each.step for each in by_loader.reports][:2] == [4, 8]
    assert [each.step for each in by_step.reports][:2] == [16, 20]
    assert {each.minibatch_size for each in by_loader.reports} == {6}
    assert {each.whole_model.num_draws for each in by_loader.reports} == {16}


class Endless(torch.utils.data.Sampler[list[int]]):
    """Batches of which nobody knows how many there are."""

    def __iter__(self) -> Any:
        return iter(range(i, i + 6) for i in range(0, 768, 6))


def test_the_unit_is_logged(tmp_path: Path) -> None:
    loggers = [CSVLogger(tmp_path, "", ""), TensorBoardLogger(tmp_path, "", "")]
    fit(monitor(noise_unit="loader"), logger=loggers, accumulate_grad_batches=4)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert {event.value for event in events.Scalars("gradient_noise/minibatch_size/whole_model")} == {6}
    (setup,) = events.Tensors("tail_index_setup/text_summary")[0].tensor_proto.string_val
    row = "| draws | 16 minibatches of 6 samples; a draw is one loader batch of one rank |"
    assert row in setup.decode().replace("<br>", " ")
    assert "gradient_noise/minibatch_size/whole_model" in (tmp_path / "metrics.csv").read_text()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("ranks")
    codes, said = in_two_processes("tests.callbacks.noise_unit_ranks", folder, timeout=110)
    assert codes == [0, 0], said[-3000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


def test_every_rank_holds_the_same(ranks: list[dict[str, dict[str, Any]]]) -> None:
    first, second = (Trace(dict(results)) for results in ranks)
    assert first.differences(second) == []


def test_processes_gather_what_lies_in_any_order(ranks: list[dict[str, Any]]) -> None:
    expected = torch.stack([rank + torch.arange(6.0).view(2, 3).T for rank in range(2)])
    assert all(torch.equal(results["gathered"], expected) for results in ranks)


FIELDS = ("alpha", "low", "high", "gaussian_alpha", "scale", "gradient_norm", "coordinate_median")


def close(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two reports say the same of each group but for rounding; the noise's norm is looked at apart."""
    counts = ("num_full_minibatches", "minibatch_size", "noise_unit")
    pairs = zip(one["measurements"], other["measurements"], strict=True)
    return [one[name] for name in counts] == [other[name] for name in counts] and all(
        a["num_draws"] == b["num_draws"] and math.isclose(a[name], b[name], rel_tol=1e-3)
        for a, b in pairs
        for name in FIELDS
    )


def test_gradients_of_training_are_averages_over_the_ranks(ranks: list[dict[str, dict[str, Any]]]) -> None:
    found = ranks[0]["gradients of training"]
    assert (found["step"], found["minibatch_size"], whole(found)["num_draws"]) == (32, 12, 16)
    alone = report("step", source="training")  # half as large minibatches, with about twice the variance
    assert whole(alone)["noise_norm"] / whole(found)["noise_norm"] == pytest.approx(2**0.5, rel=0.25)


def test_two_ranks_by_step_are_one_process_that_accumulates_two(ranks: list[dict[str, dict[str, Any]]]) -> None:
    alone = report("step", batches(), accumulation=2)
    assert ranks[0]["step"]["minibatch_size"] == 12
    assert close(ranks[0]["step"], alone)
    # each rank knows the norm of its own share of a draw only, and takes shares for independent
    assert whole(ranks[0]["step"])["noise_norm"] == pytest.approx(whole(alone)["noise_norm"], rel=0.2)
    assert not close(ranks[0]["step"], report("step", batches()[::2]))


def test_what_one_rank_is_away_from_the_others_is_no_noise(ranks: list[dict[str, dict[str, Any]]]) -> None:
    found = ranks[0]["step of two kinds"]
    of_draws = math.sqrt(sum(norm**2 for norm in found["draw_norms"]) / len(found["draw_norms"]))
    assert whole(found)["noise_norm"] == pytest.approx(of_draws, rel=0.3)
    assert whole(report("loader", batches_of_two_kinds()))["noise_norm"] > 4 * of_draws  # there the kinds are noise


def test_further_sweeps_in_which_a_rank_has_other_samples_add_no_noise(ranks: list[dict[str, dict[str, Any]]]) -> None:
    none, some = ranks[0]["steps of a whole sweep"], ranks[0]["training data by step"]
    assert (none["minibatch_size"], whole(none)["num_draws"]) == (192, 16)
    assert whole(none)["noise_norm"] < 1e-4 * whole(none)["gradient_norm"]
    of_draws = math.sqrt(sum(norm**2 for norm in some["draw_norms"]) / len(some["draw_norms"]))
    assert whole(some)["noise_norm"] == pytest.approx(of_draws, rel=0.3)


def test_the_draws_of_two_ranks_by_loader_are_all_those_of_one_process(ranks: list[dict[str, dict[str, Any]]]) -> None:
    in_ranks_order = batches()[::2][:8] + batches()[1::2][:8] + batches()[16:]
    assert ranks[0]["loader"]["minibatch_size"] == 6
    alone = report("loader", in_ranks_order)
    assert close(ranks[0]["loader"], alone)
    assert whole(ranks[0]["loader"])["noise_norm"] == pytest.approx(whole(alone)["noise_norm"], rel=1e-5)
    assert not close(ranks[0]["loader"], report("loader", batches()[::2] * 2))
    assert not close(ranks[0]["loader"], {**ranks[0]["step"], "noise_unit": "loader"})


def test_every_coordinate_of_two_ranks_is_that_of_one_process(ranks: list[dict[str, dict[str, Any]]]) -> None:
    by_step, by_loader = (ranks[0][f"every coordinate by {unit}"] for unit in ("step", "loader"))
    assert [each["estimator"] for each in by_step["measurements"][-2:]] == ["sequential_mle", "grouped_mle"]
    assert close(by_step, report("step", batches(), accumulation=2, max_coordinates=None))
    assert not close(by_step, report("step", batches()[::2], accumulation=2, max_coordinates=None))
    # a contrast compares with the earlier pairs of its own rank, so only the moments are those of one process
    in_ranks_order = batches()[::2][:8] + batches()[1::2][:8] + batches()[16:]
    alone = report("loader", in_ranks_order, max_coordinates=None)
    for found, other in zip(by_loader["measurements"], alone["measurements"], strict=True):
        assert found["num_draws"] == other["num_draws"] == 16
        assert found["coordinate_median"] == pytest.approx(other["coordinate_median"], rel=1e-3)
        assert abs(found["alpha"] - other["alpha"]) < 0.3
    assert by_loader["measurements"][0]["coordinate_median"] != by_step["measurements"][0]["coordinate_median"]


def test_ranks_divide_the_draws_of_the_training_data_among_them(ranks: list[dict[str, dict[str, Any]]]) -> None:
    by_loader, by_step = ranks[0]["training data by loader"], ranks[0]["training data by step"]
    assert (by_loader["minibatch_size"], by_step["minibatch_size"]) == (6, 6 * 4 * 2)
    assert whole(by_loader)["num_draws"] == whole(by_step)["num_draws"] == 16
    assert by_loader["num_full_minibatches"] == 32  # a whole sweep: 16 loader batches of each rank
    assert whole(by_loader)["noise_norm"] > 2 * whole(by_step)["noise_norm"]
