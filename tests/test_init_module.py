"""Initialization of a whole module: each layer for what follows it, and nothing else touched."""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Any

import pytest
import torch
from lightning_utilities.core.imports import module_available
from torch import Tensor, nn

from lightning_tailindex.init import fractional_moment_gain, init_module_

if module_available("lightning"):
    from lightning.pytorch import LightningModule
else:
    from pytorch_lightning import LightningModule


def variances(module: nn.Module, s: float = 1.0, **arguments: Any) -> list[float]:
    """Variance that was asked for of each layer's weights: what one standard Gaussian draw was multiplied with."""
    init_module_(module, s, generator=torch.Generator().manual_seed(0), **arguments)
    generator, found = torch.Generator().manual_seed(0), []
    for layer in module.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            weight = layer.weight.detach()
            plain = torch.empty_like(weight).normal_(generator=generator)
            found.append(float((weight / plain).median()) ** 2)
            assert torch.allclose(weight, plain * math.sqrt(found[-1]), rtol=1e-4)
    return found


def gain2(width: int, *arguments: Any, s: float = 1.0, **more: Any) -> float:
    return fractional_moment_gain(width, s, *arguments, **more) ** 2


def approx(values: list[float]) -> Any:
    return pytest.approx(values, rel=1e-5)


def test_each_layer_of_a_sequential_is_for_what_follows_it() -> None:
    net = nn.Sequential(
        *(nn.Linear(10, 12), nn.ReLU(), nn.Linear(12, 14), nn.LeakyReLU(0.3), nn.Linear(14, 16), nn.RReLU(0.1, 0.2)),
        *(nn.Linear(16, 18), nn.PReLU(init=0.4), nn.Linear(18, 20), nn.Linear(20, 5)),
    )
    assert variances(net) == approx(
        [
            gain2(12, "relu") / 10,
            gain2(14, "leaky_relu", 0.3) / 12,
            gain2(16, "rrelu", (0.1, 0.2)) / 14,
            gain2(18, "leaky_relu", 0.4) / 16,
            gain2(20, "linear") / 18,
            gain2(5, "linear") / 20,
        ]
    )


@pytest.mark.parametrize("end", [[], [nn.LogSoftmax(dim=1)], [nn.Softmax(dim=1)], [nn.Flatten()]])
def test_the_last_layer_is_linear(end: list[nn.Module]) -> None:
    assert variances(nn.Sequential(nn.Linear(3, 7), *end)) == approx([gain2(7, "linear") / 3])


def test_dropout_counts_before_and_behind_the_nonlinearity() -> None:
    net = nn.Sequential(
        *(nn.Dropout(0.9), nn.Linear(10, 12), nn.Dropout(0.5), nn.ReLU(), nn.Dropout(0.2)),
        *(nn.Linear(12, 8), nn.Dropout(0.3), nn.Linear(8, 6)),
    )
    expected = [gain2(12, "relu", keep_prob=0.4) / 10, gain2(8, "linear", keep_prob=0.7) / 12, gain2(6, "linear") / 8]
    assert variances(net) == approx(expected)


def test_convolutions_with_groups_and_pools_and_norms_between() -> None:
    net = nn.Sequential(
        *(nn.Conv2d(4, 8, 3, groups=2), nn.BatchNorm2d(8), nn.MaxPool2d(2), nn.ReLU(), nn.Dropout2d(0.25)),
        *(nn.ConvTranspose2d(8, 6, (4, 2), stride=(2, 1), groups=2), nn.Identity(), nn.LeakyReLU()),
        *(nn.Conv2d(6, 5, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)),
    )
    expected = [
        gain2(8, "relu", keep_prob=0.75) / (2 * 9),
        gain2(6, "leaky_relu") / (4 * 8 / 2),
        gain2(5, "linear") / 6,
        gain2(3, "linear") / 5,
    ]
    assert variances(net) == approx(expected)


def test_sequentials_in_sequentials_are_one_chain() -> None:
    activation = nn.ReLU()  # one object in two places
    inner = nn.Sequential(OrderedDict(first=nn.Linear(4, 6), activation=activation, second=nn.Linear(6, 8)))
    net = nn.Sequential(inner, activation, nn.Sequential(nn.Linear(8, 2)))
    assert variances(net) == approx([gain2(6, "relu") / 4, gain2(8, "relu") / 6, gain2(2, "linear") / 8])


class Net(LightningModule):  # type: ignore[misc]
    """A Sequential, and a layer whose activation is called in forward."""

    def __init__(self, s: float, nonlinearity: str | None) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 8))
        self.head = nn.Linear(8, 3)
        self.norm = nn.LayerNorm(3)
        init_module_(self, s, nonlinearity)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.head(self.body(x)).relu())


def test_a_lightning_module_says_what_cannot_be_told() -> None:
    net = Net(1.0, "relu")
    assert variances(net, nonlinearity="relu", keep_prob=0.9) == approx(
        [gain2(6, "relu") / 4, gain2(8, "linear") / 6, gain2(3, "relu", keep_prob=0.9) / 8]
    )
    with pytest.raises(ValueError, match="init_module_ needs nonlinearity for what follows head, got None"):
        Net(1.0, None)


class Backwards(nn.Sequential):
    """A Sequential in name."""

    def forward(self, x: Tensor) -> Tensor:
        for child in reversed(list(self)):
            x = child(x)
        return x


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (nn.Linear(2, 2), "the module"),
        (nn.ModuleList([nn.Linear(2, 2), nn.ReLU()]), "0"),
        (nn.Sequential(nn.Linear(2, 2), nn.Tanh(), nn.Linear(2, 2), nn.GELU()), "0, 2"),
        (Backwards(nn.Linear(2, 2), nn.ReLU()), "0"),
        (nn.Sequential(nn.Linear(2, 2), nn.ReLU(), Backwards(nn.Linear(2, 2), nn.ReLU())), "2.0"),
    ],
)
def test_what_follows_is_asked_for_where_it_cannot_be_told(module: nn.Module, names: str) -> None:
    before = [parameter.clone() for parameter in module.parameters()]
    with pytest.raises(ValueError, match=f"for what follows {names}, got None"):
        init_module_(module, 1.0)
    assert all(torch.equal(*pair) for pair in zip(before, module.parameters(), strict=True))
    init_module_(module, 1.0, "leaky_relu", 0.2)
    assert not any(torch.equal(*pair) for pair in zip(before, module.parameters(), strict=True))


def test_biases_are_zero_and_the_rest_is_left() -> None:
    net = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.ReLU(), nn.Linear(4, 4, bias=False), nn.PReLU())
    nn.init.constant_(net[1].weight, 3.0)
    assert init_module_(net, 1.5) is net
    assert not net[0].bias.any()
    assert net[0].weight.all()
    assert bool((net[1].weight == 3).all())
    assert bool((net[4].weight == 0.25).all())
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in net.parameters())


def test_the_seed_reproduces_it() -> None:
    def weights(seed: int) -> Tensor:
        net = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 3))
        init_module_(net, 1.0, generator=torch.Generator().manual_seed(seed))
        return nn.utils.parameters_to_vector(net.parameters())

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_what_cannot_be_filled_is_named_and_nothing_is_changed() -> None:
    first = nn.Linear(3, 3)
    before = first.weight.clone()
    lazy = nn.Sequential(first, nn.ReLU(), nn.LazyLinear(4))
    with pytest.raises(ValueError, match="2 is lazy: pass it a batch first"):
        init_module_(lazy, 1.0)
    normed = nn.Sequential(first, nn.ReLU(), nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)))
    with pytest.raises(ValueError, match="2 is parametrized: do that later"):
        init_module_(normed, 1.0)
    assert torch.equal(first.weight, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"s": 3.0}, r"s must be in \(0, 2\], got 3.0"),
        ({"s": 1.0, "nonlinearity": "tanh"}, "nonlinearity must be one of .*, got 'tanh'"),
        ({"s": 1.0, "nonlinearity": "relu", "a": 0.1}, "a is for 'leaky_relu' and 'rrelu'"),
        ({"s": 1.0, "keep_prob": 0.0}, "keep_prob must be in"),
    ],
)
def test_bad_arguments_are_named_even_where_no_layer_needs_them(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        init_module_(nn.Sequential(nn.Linear(2, 2)), **arguments)


@pytest.mark.parametrize("module", [nn.Sequential(), nn.MultiheadAttention(8, 2)], ids=["empty", "attention"])
def test_a_module_without_such_a_layer_is_refused(module: nn.Module) -> None:
    with pytest.raises(ValueError, match="init_module_ needs a module with a linear or convolutional layer, got"):
        init_module_(module, s=1.0, nonlinearity="relu")


def test_attention_stays_as_it_is_with_the_layer_in_it() -> None:
    net = nn.ModuleDict({"attention": nn.MultiheadAttention(8, 2), "head": nn.Linear(8, 3)})
    nn.init.ones_(net["head"].bias)
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    with pytest.raises(ValueError, match="what follows head, got None"):
        init_module_(net, s=1.0)
    init_module_(net, s=1.0, nonlinearity="linear")
    changed = [name for name, weight in net.state_dict().items() if not torch.equal(weight, before[name])]
    assert changed == ["head.weight", "head.bias"]
