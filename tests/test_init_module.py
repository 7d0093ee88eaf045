"""Initialization of a whole module: each layer for what follows it, and nothing else touched."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from lightning_utilities.core.imports import module_available
from torch import Tensor, nn
from torch.nn.utils import prune

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


@pytest.mark.parametrize(
    "end",
    [[], [nn.LogSoftmax(dim=1)], [nn.Softmax(dim=1)], [nn.Softmax2d()], [nn.Softmin(dim=1)], [nn.Flatten()]],
)
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


PASSED_OVER: list[nn.Module] = [
    *(nn.BatchNorm1d(8), nn.BatchNorm2d(8), nn.BatchNorm3d(8), nn.SyncBatchNorm(8)),
    *(nn.LazyBatchNorm1d(), nn.LazyBatchNorm2d(), nn.LazyBatchNorm3d()),
    *(nn.InstanceNorm1d(8), nn.InstanceNorm2d(8), nn.InstanceNorm3d(8)),
    *(nn.LazyInstanceNorm1d(), nn.LazyInstanceNorm2d(), nn.LazyInstanceNorm3d()),
    *(nn.LayerNorm(8), nn.GroupNorm(2, 8), nn.RMSNorm(8), nn.LocalResponseNorm(2), nn.CrossMapLRN2d(2)),
    *(nn.MaxPool1d(2), nn.MaxPool2d(2), nn.MaxPool3d(2), nn.AvgPool1d(2), nn.AvgPool2d(2), nn.AvgPool3d(2)),
    *(nn.AdaptiveMaxPool1d(2), nn.AdaptiveMaxPool2d(2), nn.AdaptiveMaxPool3d(2)),
    *(nn.AdaptiveAvgPool1d(2), nn.AdaptiveAvgPool2d(2), nn.AdaptiveAvgPool3d(2)),
    *(nn.FractionalMaxPool2d(2, output_size=2), nn.FractionalMaxPool3d(2, output_size=2)),
    *(nn.ZeroPad1d(1), nn.ZeroPad2d(1), nn.ZeroPad3d(1), nn.ConstantPad1d(1, 2.0), nn.ConstantPad2d(1, 2.0)),
    *(nn.ConstantPad3d(1, 2.0), nn.ReflectionPad1d(1), nn.ReflectionPad2d(1), nn.ReflectionPad3d(1)),
    *(nn.ReplicationPad1d(1), nn.ReplicationPad2d(1), nn.ReplicationPad3d(1)),
    *(nn.CircularPad1d(1), nn.CircularPad2d(1), nn.CircularPad3d(1)),
    *(nn.Upsample(scale_factor=2), nn.UpsamplingNearest2d(scale_factor=2), nn.UpsamplingBilinear2d(scale_factor=2)),
    *(nn.PixelShuffle(2), nn.PixelUnshuffle(2), nn.ChannelShuffle(2), nn.Fold(2, 2), nn.Unfold(2)),
    *(nn.Flatten(), nn.Unflatten(1, (2, 4)), nn.Identity(), nn.AlphaDropout(0.1), nn.FeatureAlphaDropout(0.1)),
]


@pytest.mark.parametrize("between", PASSED_OVER, ids=lambda module: type(module).__name__)
def test_what_leaves_the_activation_behind_it_is_passed_over(between: nn.Module) -> None:
    before = variances(nn.Sequential(nn.Linear(3, 8), between, nn.LeakyReLU(0.3), nn.Dropout(0.2)))
    behind = variances(nn.Sequential(nn.Linear(3, 8), nn.LeakyReLU(0.3), between, nn.Dropout(0.2)), nonlinearity="relu")
    assert before == behind == approx([gain2(8, "leaky_relu", 0.3, keep_prob=0.8) / 3])


@pytest.mark.parametrize("between", [nn.LPPool2d(2, 2), nn.ReLU6(), nn.GELU(), nn.Bilinear(8, 8, 8), nn.RNN(8, 8)])
def test_what_is_nonlinear_or_has_weights_is_not(between: nn.Module) -> None:
    with pytest.raises(ValueError, match="what follows 0, got None"):
        init_module_(nn.Sequential(nn.Linear(3, 8), between, nn.ReLU()), 1.0)


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


def test_layers_that_are_tied_to_embeddings_stay_as_they_are() -> None:
    net = nn.ModuleDict({"tokens": nn.Embedding(9, 8, padding_idx=0), "body": nn.Linear(8, 8), "head": nn.Linear(8, 9)})
    net["head"].weight = net["tokens"].weight
    tokens, body, bias = (part.detach().clone() for part in (net["head"].weight, net["body"].weight, net["head"].bias))
    init_module_(net, 1.0, "relu")
    assert torch.equal(net["tokens"].weight, tokens)
    assert torch.equal(net["head"].bias, bias)
    assert not torch.equal(net["body"].weight, body)


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


def pruned(layer: nn.Linear, part: str) -> nn.Linear:
    return cast(nn.Linear, prune.random_unstructured(layer, part, 0.5))


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")  # but there are such models
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (lambda layer: nn.LazyLinear(4), "2 is lazy: pass it a batch first"),
        (nn.utils.parametrizations.weight_norm, "2 is parametrized: do that later"),
        (lambda layer: pruned(layer, "weight"), "the weight of 2 is made of weight_orig, as by pruning"),
        (lambda layer: pruned(layer, "bias"), "the bias of 2 is made of bias_orig, as by pruning"),
        (
            nn.utils.weight_norm,
            "the weight of 2 is made of weight_g, weight_v, as by .* weight_norm or .*: do that later",
        ),
        (nn.utils.spectral_norm, "the weight of 2 is made of weight_orig, as by .* spectral_norm"),
    ],
    ids=["lazy", "parametrized", "pruned weight", "pruned bias", "weight_norm", "spectral_norm"],
)
def test_what_cannot_be_filled_is_named_and_nothing_is_changed(
    kind: Callable[[nn.Linear], nn.Module], message: str
) -> None:
    first, last = nn.Linear(3, 3), nn.Linear(3, 3)
    net = nn.Sequential(first, nn.ReLU(), kind(last))
    before = {id(part): part.clone() for layer in (first, last) for part in layer.parameters()}
    with pytest.raises(ValueError, match=message):
        init_module_(net, 1.0)
    assert all(torch.equal(part, before[id(part)]) for layer in (first, last) for part in layer.parameters())
    init_module_(nn.Sequential(first), 1.0)
    assert not torch.equal(first.weight, before[id(first.weight)])


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op$:UserWarning")  # torch's own, here
@pytest.mark.parametrize(
    "empty",
    [
        *(lambda: nn.Linear(0, 3), lambda: nn.Linear(3, 0), lambda: nn.Linear(0, 0)),
        *(lambda: nn.Conv2d(0, 3, 1), lambda: nn.ConvTranspose2d(3, 0, 1)),
    ],
)
def test_a_layer_without_elements_is_passed_over_and_named(empty: Callable[[], Any]) -> None:
    net = nn.Sequential(OrderedDict(full=nn.Linear(4, 3), empty=empty()))
    if net.empty.bias.numel():
        nn.init.ones_(net.empty.bias)
    with pytest.warns(UserWarning, match="zero-element tensors is a no-op: the weight of empty has shape"):
        init_module_(net, 1.0, generator=torch.Generator().manual_seed(0))
    plain = torch.empty(3, 4).normal_(generator=torch.Generator().manual_seed(0))
    assert torch.allclose(net.full.weight, plain * math.sqrt(gain2(3, "linear") / 4))
    assert not net.full.bias.any()
    assert not net.empty.bias.any()


@pytest.mark.parametrize(
    ("behind", "message"),
    [
        ([nn.Dropout(1.0)], r"for body\.0: keep_prob must be in \[1e-06, 1\], got 0\.0"),
        ([nn.LeakyReLU(1e160)], r"for body\.0: a must be 0 or of a size from 1e-100 to 1e\+100, got 1e\+160"),
        ([nn.ReLU(), nn.Dropout(0.9)], r"for body\.0: s must be larger for a width of 2 with 'relu'"),
    ],
)
def test_errors_name_the_layer(behind: list[nn.Module], message: str) -> None:
    net = nn.ModuleDict({"body": nn.Sequential(nn.Linear(2, 2), *behind)})
    before = [parameter.clone() for parameter in net.parameters()]
    with pytest.raises(ValueError, match=message):
        init_module_(net, 1e-4)
    assert all(torch.equal(*pair) for pair in zip(before, net.parameters(), strict=True))


def test_a_layer_that_is_the_module_has_a_name_too() -> None:
    with pytest.raises(ValueError, match="the weight of the module is made of weight_orig"):
        init_module_(pruned(nn.Linear(2, 2), "weight"), 1.0, "relu")
    with pytest.raises(ValueError, match="the module is lazy"):
        init_module_(nn.LazyLinear(2), 1.0, "relu")


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
