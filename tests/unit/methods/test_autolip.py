"""AutoLip on graphs whose constants are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch_modules import Graph, seeded

import certlip
from certlip.base.errors import UnsupportedLayer
from certlip.base.record import Kind
from certlip.methods import autolip
from certlip.network import LINEAR, Conv, Network
from certlip.pytorch.export import export_network
from certlip.verify import verify


def product_of_true_norms(module: nn.Module, input_shape: tuple[int, ...]) -> float:
    network = export_network(module, input_shape)
    dense = [a.matrix(s).toarray() for a, s in zip(network.layers, network.shapes, strict=False)
             if isinstance(a, LINEAR)]  # fmt: skip
    return math.prod(float(np.linalg.norm(w, 2)) for w in dense)


def estimate_of(function, seed: int = 0) -> tuple[float, float, float]:
    """AutoLip's value, and the norms of the two layers."""
    module = seeded(Graph(function), seed)
    norms = [float(torch.linalg.matrix_norm(m.weight.detach(), 2)) for m in (module.a, module.b)]
    return autolip.bound(module, (4,), n_iter=400).value, *norms


CHAINS = {
    "dense": (nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)), (5,)),
    "conv": (
        nn.Sequential(
            nn.Conv2d(2, 3, 3, 2, 1), nn.ReLU(), nn.Conv2d(3, 4, 2, groups=1), nn.Flatten(), nn.Linear(16, 2)
        ),
        (2, 6, 6),
    ),
    "groups and dilation": (nn.Sequential(nn.Conv2d(4, 4, 3, 1, 2, 2, 2), nn.Tanh(), nn.AvgPool2d(2)), (4, 6, 6)),
    "one pixel": (nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(3, 1, 1)), (3, 1, 1)),
    "batch normalisation": (nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3, eps=0.5), nn.ReLU()), (1, 5, 5)),
}


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("chain", CHAINS)
def test_estimate_of_a_chain_approaches_the_product_of_true_norms_from_below(chain: str, scale: float) -> None:
    module, shape = CHAINS[chain]
    module = seeded(module, 1)
    with torch.no_grad():
        next(module.parameters()).mul_(scale)
    # the product of an unfolded batch normalisation is above that of the exported layer
    true = product_of_true_norms(module, shape)
    value = autolip.bound(module, shape, n_iter=500).value
    assert value >= true * (1 - 1e-3)
    if chain != "batch normalisation":
        assert value <= true * (1 + 1e-12)


def test_few_iterations_stay_below_the_true_norm() -> None:
    """Why it is an estimate: the power method has not arrived."""
    module = seeded(nn.Sequential(nn.Linear(40, 40)))
    assert autolip.bound(module, (40,), n_iter=2).value < 0.98 * product_of_true_norms(module, (40,))


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda m, x: x + m.a(x), lambda a, b: 1 + a),
        (lambda m, x: m.b(F.relu(x + m.a(x))), lambda a, b: b * (1 + a)),
        (lambda m, x: m.a(x) - m.b(x), lambda a, b: a + b),
        (lambda m, x: torch.cat([m.a(x), m.b(x), x], dim=1), lambda a, b: a + b + 1),
        (lambda m, x: x + x, lambda a, b: 2.0),
        (lambda m, x: torch.cat([x, x], dim=1), lambda a, b: math.sqrt(2)),
        (lambda m, x: torch.add(x, m.a(x), alpha=3), lambda a, b: 1 + 3 * a),
        (lambda m, x: 0.5 * m.a(x), lambda a, b: 0.5 * a),
        (lambda m, x: m.a(x).view(x.size(0), 2, 2).permute(0, 2, 1).reshape(x.size(0), -1), lambda a, b: a),
        (lambda m, x: m.a(x).mean(dim=1, keepdim=True) + x, lambda a, b: a / 2 * 2 + 1),
        (lambda m, x: F.gelu(m.a(x)), lambda a, b: 1.1289043 * a),
        (lambda m, x: m.a(x).relu_(), lambda a, b: a),
    ],
)
def test_constant_of_a_graph_sums_over_the_inputs_of_each_node(function, expected) -> None:
    value, a, b = estimate_of(function)
    assert value == pytest.approx(expected(a, b), rel=1e-3)


class InPlace(Graph):
    """Changes what it reads later, or what nothing reads by that name."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.a(x)
        return self.function(h)


@pytest.mark.parametrize("certified", [False, True])
@pytest.mark.parametrize("function", [lambda h: h.relu_() + h, lambda h: F.leaky_relu(h, -3.0, inplace=True) + h])
def test_a_step_in_place_of_what_another_reads_is_refused(function, certified: bool) -> None:
    with pytest.raises(UnsupportedLayer, match="in place of what others use"):
        autolip.bound(seeded(InPlace(function)), (4,), certified=certified)


def test_a_change_in_place_that_the_trace_loses_is_refused() -> None:
    def lost(h: torch.Tensor) -> torch.Tensor:
        h.mul_(3.0)
        return h + h.tanh()

    with pytest.raises(UnsupportedLayer, match="no bound for"):
        autolip.bound(seeded(InPlace(lost)), (4,))


@pytest.mark.parametrize("certified", [False, True])
def test_uneven_padding_survives_the_way_through_torch(certified: bool) -> None:
    weight = np.random.default_rng(2).standard_normal((2, 1, 3, 3))
    network = Network((Conv("c", weight, np.zeros(2), padding=(0, 2, 1, 0)),), (1, 5, 4))
    record = certlip.bound(network, method="autolip", certified=certified, n_iter=400)
    true = float(np.linalg.norm(network.layers[0].matrix((1, 5, 4)).toarray(), 2))
    assert record.value is not None
    if certified:
        assert true <= record.value <= true * (1 + 1e-9)
        assert verify(record.certificate)
    else:
        assert record.value >= true * (1 - 1e-6)  # the padding is a node of its own


def test_overlapping_max_pooling_counts_the_windows_that_share_a_pixel() -> None:
    assert autolip.bound(nn.MaxPool2d(2, 1).double().eval(), (1, 5, 5)).value == pytest.approx(2.0)
    assert autolip.bound(nn.MaxPool2d(2, 2).double().eval(), (1, 6, 6)).value == 1.0


def test_slope_of_an_unknown_activation_is_sampled_and_recorded() -> None:
    result = autolip.bound(seeded(Graph(lambda m, x: torch.erf(torch.sin(x)))), (4,))
    assert result.details["sampled_slopes"]["sin"] == pytest.approx(1.0, abs=1e-3)
    assert result.details["sampled_slopes"]["erf"] == pytest.approx(2 / math.sqrt(math.pi), abs=1e-3)


def test_number_of_iterations_and_seed_are_recorded() -> None:
    record = certlip.bound(seeded(nn.Linear(3, 2)), (3,), "autolip", n_iter=7, seed=5)
    assert record.kind is Kind.ESTIMATE
    assert record.details["n_iter"] == 7
    assert record.details["seed"] == 5


@pytest.mark.parametrize("certified", [False, True])
@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda m, x: x.abs().sqrt(), "sqrt"),
        (lambda m, x: m.a(x) * m.b(x), "mul"),
        (lambda m, x: x * x, "mul"),
        (lambda m, x: F.layer_norm(m.a(x), (4,)), "layer_norm"),
        (lambda m, x: torch.exp(x), "exp"),
        (lambda m, x: 1.0 / x, "truediv"),
    ],
)
def test_a_node_without_bound_is_refused_by_name(function, name: str, certified: bool) -> None:
    with pytest.raises(UnsupportedLayer, match=f"{name}.*: no bound for"):
        autolip.bound(seeded(Graph(function)), (4,), certified=certified)


@pytest.mark.parametrize("chain", CHAINS)
def test_certified_variant_of_a_chain_is_never_below_the_true_norms_and_verifies(chain: str) -> None:
    module, shape = CHAINS[chain]
    module = seeded(module, 2)
    result = autolip.bound(module, shape, certified=True)
    assert result.kind is Kind.CERTIFIED
    assert result.value >= product_of_true_norms(module, shape)
    assert verify(result.certificate)


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (lambda m, x: m.b(F.relu(x + 2.0 * m.a(x))), lambda a, b: b * (1 + 2 * a)),
        (lambda m, x: torch.cat([m.a(x), m.b(x)], dim=1), lambda a, b: a + b),
        (lambda m, x: m.a(x) - m.b(x).tanh(), lambda a, b: a + b),
        (lambda m, x: 1 - 3 * m.b(-x + m.a(x)), lambda a, b: 3 * b * (1 + a)),
        (lambda m, x: torch.add(x, m.a(x), alpha=-3), lambda a, b: 1 + 3 * a),
        (lambda m, x: x + x, lambda a, b: 2.0),
        (lambda m, x: x * torch.tensor([1.0, -4.0, 2.0, 0.0]) + 0.1, lambda a, b: 4.0),
    ],
)
def test_certified_variant_of_a_graph_is_never_below_its_formula(function, expected) -> None:
    module = seeded(Graph(function), 4)
    result = autolip.bound(module, (4,), certified=True)
    norms = [float(np.linalg.norm(m.weight.detach().numpy(), 2)) for m in (module.a, module.b)]
    assert expected(*norms) <= result.value <= expected(*norms) * (1 + 1e-9)
    assert result.kind is Kind.CERTIFIED
    assert result.certificate.value == result.value
    assert verify(result.certificate)


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x: torch.cat([m.a(x), m.b(x)], dim=0),
        lambda m, x: torch.cat([m.a(x), m.b.bias[None].expand(x.shape[0], -1)], dim=1),
        lambda m, x: m.a(x).mean(dim=1, keepdim=True) + x,
        lambda m, x: m.a(x) + m.b(x) * m.b.weight[:, None],
    ],
)
def test_certified_variant_refuses_by_name_what_a_graph_does_not_describe(function) -> None:
    with pytest.raises(UnsupportedLayer, match=r"(cat|add|mul).*: no bound for"):
        autolip.bound(seeded(Graph(function)), (4,), certified=True)


def test_certified_variant_refuses_a_module_that_its_graph_does_not_repeat() -> None:
    """Its factor is the number of examples, which is two where the graph is read off."""
    module = seeded(Graph(lambda m, x: x + m.a(x) * x.shape[0]))
    with pytest.raises(UnsupportedLayer, match=r"Graph: .* differs from the module"):
        autolip.bound(module, (4,), certified=True)


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(context, x: torch.Tensor) -> torch.Tensor:
        return x.sign()

    @staticmethod
    def backward(context, gradient: torch.Tensor) -> torch.Tensor:
        return gradient


@torch.fx.wrap
def straight_through(x: torch.Tensor) -> torch.Tensor:
    return Straight.apply(x)


@torch.fx.wrap
def half_detached(x: torch.Tensor) -> torch.Tensor:
    return x + 2 * x.detach()


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: x.detach(), "detach"),
        (lambda x: x + x.sign(), "sign"),
        (torch.floor, "floor"),
        (torch.ceil, "ceil"),
        (torch.trunc, "trunc"),
        (torch.frac, "frac"),
        (torch.round, "round"),
        (lambda x: torch.round(x, decimals=-5), "round"),
        (lambda x: torch.fmod(x, 1e5), "fmod"),
        (lambda x: x % 1e5, "mod"),
        (lambda x: x // 2, "floordiv"),
        (lambda x: torch.heaviside(x, torch.zeros(1, dtype=torch.float64)), "heaviside"),
        (lambda x: x * (x > 5000), "gt"),
        (lambda x: (x < 0).double(), "lt"),
        (lambda x: x.argmax(dim=1), "argmax"),
        (F.hardshrink, "hardshrink"),
        (lambda x: F.hardshrink(x, 1e5), "hardshrink"),
        (lambda x: F.threshold(x, 1e5, 20.0), "threshold"),
        (lambda x: F.threshold_(1.0 * x, 1e5, 20.0), "threshold_"),
        (lambda x: F.dropout(x, training=True), "dropout"),
        (lambda x: F.rrelu(x, training=True), "rrelu"),
        (lambda x: torch.bernoulli(x.sigmoid()), "bernoulli"),
        (lambda x: x + torch.randn_like(x), "randn_like"),
        (lambda x: x.half().double(), "half"),
        (lambda x: straight_through(x), "straight_through"),
        (lambda x: half_detached(x), "half_detached"),
    ],
)
def test_what_a_derivative_does_not_describe_is_refused_by_name(function, name: str) -> None:
    for layer in (nn.Identity(), nn.Linear(4, 4), nn.Linear(4, 5000)):
        module = seeded(nn.Sequential(layer, Calls(function)))
        with pytest.raises(UnsupportedLayer, match=rf"{name}\S*: no bound for \S*{name}"):
            autolip.bound(module, (4,))


class Calls(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "slope"),
    [
        (torch.nan_to_num, 1.0),
        (F.hardswish, 1.5),
        (F.softshrink, 1.0),
        (lambda x: x.clamp(-1, 1), 1.0),
        (lambda x: torch.tanh(1000 * x), 1000.0),
        (lambda x: x + torch.zeros_like(x), 1.0),
        (lambda x: F.rrelu(x), 1.0),
        (torch.sin, 1.0),
    ],
)
def test_steep_or_kinked_functions_without_jumps_keep_their_slope(function, slope: float) -> None:
    assert autolip.bound(Calls(function), (4,)).value == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("exponent", [-990, -400, -200, 200, 300, 500, 990])
def test_the_estimate_of_a_network_times_a_power_of_two_is_that_times_the_estimate(exponent: int) -> None:
    def estimate(*exponents: int) -> float:
        module = seeded(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), nn.Tanh(), nn.Linear(3, 2)))
        with torch.no_grad():
            for layer, e in zip(module[::2], exponents, strict=True):
                layer.weight.mul_(2.0**e)
                layer.bias.zero_()
        return autolip.bound(module, (4,)).value

    once = estimate(0, 0, 0)
    assert once > 0
    assert estimate(0, 0, exponent) == math.ldexp(once, exponent)
    assert estimate(exponent, 0, 0) == math.ldexp(once, exponent)
    # the product overflows or underflows on its way
    assert estimate(exponent, exponent, -exponent) == math.ldexp(once, exponent)


def test_an_estimate_that_overflows_is_a_row_that_says_so() -> None:
    module = seeded(nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(1e200)
    record = certlip.bound(module, (4,), "autolip")
    assert record.status == "not_certified"
    assert "overflows" in record.reason
