"""Two real processes over gloo train a module that is sharded over them (FSDP2), and measure it together."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_tailindex import TailIndexMonitor
from lightning_tailindex.functional import weight_spectrum
from lightning_tailindex.noise.resharding import can_shard_again
from tests.forked import in_two_processes
from tests.sharding import needs_fully_shard

from .training_trace import Net, Trace

KINDS = ["Plain", "Replicated", "Hybrid", "Grouped", "Tied", "Parametrized", "Whole"]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[Any, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    codes, said = in_two_processes("tests.callbacks.fsdp_training", folder, timeout=300)
    assert codes == [0, 0], said[-3000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


def whole(report: dict[str, Any]) -> dict[str, Any]:
    """What a report says of the whole model."""
    assert report["measurements"][-1]["group"] == "whole_model"
    return report["measurements"][-1]  # type: ignore[no-any-return]


def assert_alike(report: dict[str, Any], expected: dict[str, Any], *, rel: float = 1e-5) -> None:
    """Asserts that two reports agree to rounding, group by group."""
    for name in ("num_full_minibatches", "minibatch_size", "note", "noise_unit"):
        assert report[name] == expected[name]
    groups = zip(report["measurements"], expected["measurements"], strict=True)
    for found, wanted in groups:
        for name in ("group", "num_draws", "num_coordinates", "group_size", "zero_share"):
            assert found[name] == wanted[name]
        for name in ("alpha", "scale", "gradient_norm", "noise_norm"):
            assert found[name] == pytest.approx(wanted[name], rel=rel), (found["group"], name)


@needs_fully_shard
@pytest.mark.parametrize("case", [1, 2, "broken module", "broken data"])
def test_training_is_the_same_bit_for_bit_on_every_rank(ranks: list[Any], case: int | str) -> None:
    for results in ranks:
        without, watched = (Trace({**run, "reports": None}) for run in results[case])
        assert without.differences(watched) == []


@needs_fully_shard
def test_the_comparison_can_fail(ranks: list[Any]) -> None:
    for results in ranks:
        without, in_place = (Trace({**run, "reports": None}) for run in results["in place"])
        assert {"parameters", "optimizer", "losses", "buffers"} <= set(without.differences(in_place))
    first, second = (Trace(results[1][1]) for results in ranks)
    assert {"parameters", "optimizer", "batches"} <= set(first.differences(second))  # each rank has a shard of its own


@needs_fully_shard
@pytest.mark.parametrize("accumulation", [1, 2])
def test_every_rank_holds_the_same_reports(ranks: list[Any], accumulation: int) -> None:
    reports = [results[accumulation][1]["reports"] for results in ranks]
    assert [report["step"] for report in reports[0]] == list(range(0, 20 // accumulation, 5))
    assert all(report["minibatch_size"] == 4 * accumulation * 2 for report in reports[0])
    first, second = (Trace(dict(enumerate(part))) for part in reports)  # type: ignore[arg-type]
    assert first.differences(second) == []


@needs_fully_shard
@pytest.mark.parametrize("kind", KINDS)
def test_the_report_is_that_of_a_single_process_that_sees_the_same_minibatches(ranks: list[Any], kind: str) -> None:
    from .fsdp_training import report

    found = ranks[0]["reports"][kind]
    assert_alike(found, report(kind, num_processes=1))
    assert Trace(found).differences(Trace(ranks[1]["reports"][kind])) == []
    assert whole(found)["noise_norm"] > 0


@needs_fully_shard
def test_mixed_precision_and_offloading_are_those_of_training(ranks: list[Any]) -> None:
    single, half = (ranks[0]["reports"][kind] for kind in ("Plain", "Offloaded"))
    assert whole(half)["noise_norm"] == pytest.approx(whole(single)["noise_norm"], rel=1e-2)
    assert whole(half)["noise_norm"] != pytest.approx(whole(single)["noise_norm"], rel=1e-5)  # it is not ignored


@needs_fully_shard
def test_other_minibatches_or_half_of_the_coordinates_would_be_told_apart(ranks: list[Any]) -> None:
    plain, tied = (ranks[0]["reports"][kind] for kind in ("Plain", "Tied"))
    with pytest.raises(AssertionError):
        assert_alike(ranks[0]["gradients of training"], plain)
    with pytest.raises(AssertionError):
        assert_alike(tied, plain)


@needs_fully_shard
def test_the_vectorized_engine_leaves_shards_to_the_loop(ranks: list[Any]) -> None:
    for results in ranks:
        assert Trace(results["vectorized"]).differences(Trace(results["reports"]["Plain"])) == []


@needs_fully_shard
def test_the_gradients_of_training_are_those_of_a_single_process(ranks: list[Any]) -> None:
    from .fsdp_training import report

    found = [results["gradients of training"] for results in ranks]
    assert_alike(found[0], report("Plain", "training", num_processes=1))
    assert Trace(found[0]).differences(Trace(found[1])) == []


@needs_fully_shard
@pytest.mark.parametrize("source", ["extra", "training"])
def test_every_coordinate_of_all_shards_is_looked_at(ranks: list[Any], source: str) -> None:
    from .fsdp_training import report

    found = [results["every coordinate"][source] for results in ranks]
    assert whole(found[0])["num_coordinates"] == whole(found[0])["group_size"] == 147
    assert_alike(found[0], report("Plain", source, max_coordinates=None, num_processes=1), rel=1e-4)
    assert Trace(found[0]).differences(Trace(found[1])) == []


@needs_fully_shard
def test_a_process_keeps_gradients_of_its_shard_and_nothing_more(ranks: list[Any]) -> None:
    sizes = [results["sizes"] for results in ranks]
    assert [size["kept"] for size in sizes] == [size["shard"] for size in sizes]
    assert sum(size["kept"] for size in sizes) == sizes[0]["all"]
    assert max(size["kept"] for size in sizes) < 0.6 * sizes[0]["all"]


@needs_fully_shard
def test_the_shadow_is_sharded_as_the_module_is_and_leaves_it_no_gradients(ranks: list[Any]) -> None:
    for results in ranks:
        sizes = results["sizes"]
        assert sizes["classes"] == sizes["classes in training"]
        assert "FSDPLinear" in sizes["classes"]
        assert not sizes["has gradients"]


@needs_fully_shard
def test_shadows_are_freed_at_once(ranks: list[Any]) -> None:
    for results in ranks:
        before, *after = results["states"]
        assert after == [before] * 3


@needs_fully_shard
@pytest.mark.parametrize(("case", "steps"), [("broken module", [0, 8, 12, 16]), ("broken data", [0, 4, 8])])
def test_a_measurement_that_fails_is_dropped_on_all_ranks(ranks: list[Any], case: str, steps: list[int]) -> None:
    """Data break in one process; passes break in both, because one alone would keep the other waiting for it."""
    for results in ranks:
        assert [report["step"] for report in results[case][1]["reports"]] == steps


@needs_fully_shard
@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("HalfSharded", "fully_shard must hold every measured parameter, it does not hold 'head.weight'"),
        ("Columns", "'body.0.weight' must be sharded once, along its first dimension"),
        ("NotSharded", "NotSharded cannot be measured: fully_shard was applied to none of its submodules"),
        ("tensor parallel", "tensor parallelism is not supported, got tensor_parallel_size=2"),
        ("loader", 'noise_unit must be "step", got "loader"'),
        ("first exit", "The weights cannot be measured under ModelParallelStrategy: processes have shards of them"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_the_reason(ranks: list[Any], case: str, reason: str) -> None:
    for results in ranks:
        assert reason in results["refused"][case]
        assert "at step 0" in results["refused"][case]


@needs_fully_shard
def test_sharded_weights_are_gathered(ranks: list[Any]) -> None:
    own, other = (results["spectra"] for results in ranks)
    assert own["steps"] == other["steps"] == [0, 2, 3]
    assert Trace({"last": own["last"]["matrices"]}).differences(Trace({"last": other["last"]["matrices"]})) == []
    for found in own["last"]["matrices"]:
        expected = weight_spectrum(own["weights"][found["matrix"]], min_tail=3)
        assert found["shape"] == expected.shape
        assert found["stable_rank"] == pytest.approx(expected.stable_rank, rel=1e-6)
        assert found["spectral_norm"] == pytest.approx(expected.spectral_norm, rel=1e-6)


@pytest.mark.skipif(can_shard_again(), reason="this torch has torch.distributed.fsdp.fully_shard")
def test_a_torch_without_the_public_function_is_refused() -> None:
    trainer = Trainer(accelerator="cpu", devices=2, strategy=ModelParallelStrategy(), logger=False)
    with pytest.raises(MisconfigurationException, match="under ModelParallelStrategy: it needs fully_shard of"):
        TailIndexMonitor().setup(trainer, Net(), "fit")
