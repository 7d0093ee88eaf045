"""Which weights of a module are matrices, and with which numbers."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import utils as older
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm

from lightning_tailindex.noise.groups import compile_patterns
from lightning_tailindex.weights import SpectrumSettings, decomposition_cost, weight_matrices


def numbers(module: nn.Module, *patterns: str) -> dict[str, Tensor]:
    found = weight_matrices(module, compile_patterns(patterns or None))
    return {name: matrix.compute(matrix.gather()) for name, matrix in found.items()}


def rows(layer: nn.Module, weight: Tensor) -> Tensor:
    return weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight


def test_parametrized_weights_are_those_that_the_layers_compute_with() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        *(weight_norm(nn.Conv2d(3, 8, 3)), spectral_norm(nn.Conv2d(8, 8, 3)), weight_norm(nn.Linear(5, 6))),
        *(orthogonal(nn.Linear(4, 4)), weight_norm(nn.ConvTranspose2d(4, 9, 2)), nn.Conv2d(8, 8, 1)),
    )
    before, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    found = numbers(net)
    # spectral normalization changes its buffers at each look in training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    net.eval()
    expected = {f"{place}.weight": layer.weight.detach() for place, layer in enumerate(net)}
    expected["4.weight"] = expected["4.weight"].transpose(0, 1)
    assert list(found) == list(expected)
    for name, weight in expected.items():
        assert torch.allclose(found[name], weight, rtol=1e-5, atol=1e-6)
    assert list(numbers(net, r"2\..*original1")) == ["2.weight"]
    net[0].requires_grad_(False)
    assert "0.weight" not in numbers(net)
    assert net.train()[1].weight is not None
    assert not torch.equal(net.state_dict()["1.parametrizations.weight.0._u"], before["1.parametrizations.weight.0._u"])


@pytest.mark.parametrize("groups", [1, 2])
def test_rows_of_transposed_convolutions_are_outputs(groups: int) -> None:
    layer = nn.ConvTranspose1d(4, 6, 3, groups=groups, bias=False)
    weight = numbers(layer)["weight"]
    assert weight.shape == weight_matrices(layer)["weight"].shape == (6, 4 // groups, 3)
    for place in range(4):  # an impulse in one input is answered by its outputs' columns
        impulse = torch.zeros(1, 4, 1)
        impulse[0, place] = 1
        answer = layer(impulse)[0].detach()
        first = place // (4 // groups) * (6 // groups)
        rows = slice(first, first + 6 // groups)
        assert torch.equal(answer[rows], weight[rows, place % (4 // groups)])
    settings = SpectrumSettings((), "flattened", False, 8, None)
    plain = weight_matrices(nn.Conv1d(4, 6, 3, groups=groups))
    assert decomposition_cost(weight_matrices(layer), settings) == decomposition_cost(plain, settings) > 0


def test_lazy_weights_are_waited_for() -> None:
    assert weight_matrices(nn.LazyLinear(3)) == {}
    assert list(weight_matrices(nn.Sequential(nn.LazyLinear(3), nn.Linear(3, 2)))) == ["1.weight"]
    with pytest.raises(ValueError, match="LayerNorm has no weight matrices"):
        weight_matrices(nn.LayerNorm(3))


def test_pruned_weights_are_those_that_the_layer_computes_with() -> None:
    module = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Linear(6, 6), nn.ConvTranspose2d(6, 4, 3))
    for layer in module:
        prune.l1_unstructured(layer, "weight", 0.5)
    found = weight_matrices(module)
    assert list(found) == ["0.weight", "1.weight", "2.weight"]
    for name, matrix in found.items():
        layer = module[int(name[0])]
        assert torch.equal(matrix.compute(matrix.gather()), rows(layer, layer.weight))
        assert (layer.weight == 0).any()


@pytest.mark.filterwarnings("ignore:.*torch.nn.utils.weight_norm.* is deprecated")
@pytest.mark.parametrize("norm", [older.weight_norm, older.spectral_norm])
@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: nn.Linear(5, 6), "weight"),
        (lambda: nn.Conv2d(3, 8, 3), "weight"),
        (lambda: nn.Conv1d(4, 6, 1, groups=2), "weight"),
        (lambda: nn.ConvTranspose2d(4, 9, 2), "weight"),
        (lambda: nn.Bilinear(2, 3, 4), None),
        (lambda: nn.LSTMCell(5, 3), "weight_hh"),
        (lambda: nn.MultiheadAttention(4, 2), "in_proj_weight"),
    ],
)
def test_weights_of_the_older_hooks_are_those_that_the_layers_compute_with(
    norm: Callable[..., nn.Module], make: Callable[[], nn.Module], name: str | None
) -> None:
    torch.manual_seed(0)
    plain = weight_matrices(nn.Sequential(make(), nn.Linear(2, 2)))
    net = nn.Sequential(norm(make(), name or "weight"), nn.Linear(2, 2))
    with torch.no_grad():  # far from what they start with, where some of them are all the same
        for each in net.parameters():
            each.add_(torch.randn_like(each))
    before, random = copy.deepcopy(net.state_dict()), torch.get_rng_state()
    found = weight_matrices(net)
    assert {each: matrix.shape for each, matrix in found.items()} == {each: m.shape for each, m in plain.items()}
    own = numbers(net)
    assert all(torch.equal(value, before[each]) for each, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    layer = net[0].eval()
    for hook in layer._forward_pre_hooks.values():
        hook(layer, ())  # as a forward pass does
    if name is not None:
        assert torch.equal(own[f"0.{name}"], rows(layer, getattr(layer, name)))
