"""Lower bounds attained at a point, and their proof, against enumeration of the linear regions of small networks."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import oracle
import pytest

from certlip.methods import lower, product
from certlip.network import Activation, Array, Conv, Dense, Flatten, Layer, MaxPool, Network, Shape
from certlip.proof.tangent import lower_at
from certlip.verify import verify

KINDS = ("relu", "leaky_relu", "abs", "tanh", "sigmoid", "identity")


def dense(rng: np.random.Generator, n_out: int, n_in: int, scale: float = 1.0) -> Dense:
    return Dense("d", scale * rng.standard_normal((n_out, n_in)), rng.standard_normal(n_out))


def shallow(seed: int, kind: str = "relu", scale: float = 1.0) -> Network:
    """Four inputs, five hidden, three outputs."""
    rng = np.random.default_rng(seed)
    layers = (dense(rng, 5, 4, scale), Activation("a", kind, 0.2), dense(rng, 3, 5))
    return Network(layers, (4,))


def convolutional(seed: int, *, stride: int = 1, groups: int = 1, dilation: int = 1, padding: int = 0) -> Network:
    rng = np.random.default_rng(seed)
    kernel = rng.standard_normal((2, 2 // groups, 2, 2))
    pads = (padding, 0, padding, padding)
    conv = Conv("c", kernel, rng.standard_normal(2), (stride,) * 2, pads, (dilation,) * 2, groups)
    shape = conv.output_shape((2, 4, 4))
    layers: tuple[Layer, ...] = (conv, Activation("a", "relu"), Flatten("f"), dense(rng, 2, math.prod(shape)))
    return Network(layers, (2, 4, 4))


def linear(shape: Shape = (2, 5, 5)) -> tuple[Network, Array]:
    """A network without activations, and its matrix."""
    rng = np.random.default_rng(8)
    conv = Conv("c", rng.standard_normal((3, 2, 3, 3)), rng.standard_normal(3), padding=(1, 1, 1, 1))
    last = dense(rng, 4, 75)
    network = Network((conv, Flatten("f"), last), shape)
    return network, last.weight @ oracle.dense_matrix(conv, shape)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("kind", ["relu", "leaky_relu", "abs"])
def test_lower_bound_is_never_above_the_largest_norm_over_all_linear_regions(kind: str, scale: float) -> None:
    for seed in range(2):
        network = shallow(seed, kind, scale)
        result = lower.bound(network, n_points=16, n_starts=4, n_steps=10)
        assert 0 < result.value <= oracle.attained_norm(network)
        assert verify(result.certificate)


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"groups": 2}, {"dilation": 2}, {"padding": 1, "stride": 2}])
def test_lower_bound_of_a_convolutional_network_is_never_above_any_pattern(options: dict[str, int]) -> None:
    network = convolutional(1, **options)
    result = lower.bound(network, n_points=16, n_starts=4, n_steps=20)
    assert 0 < result.value <= product.bound(network).value
    if math.prod(network.shapes[1]) <= 10:
        assert result.value <= oracle.largest_pattern_norm(network)


@pytest.mark.parametrize("kind", ["relu", "abs"])
def test_search_finds_the_constant_of_most_small_networks(kind: str) -> None:
    ratios = []
    for seed in range(5):
        network = shallow(seed, kind)
        ratios.append(lower.bound(network, n_points=64, n_starts=8, n_steps=30).value / oracle.attained_norm(network))
    assert max(ratios) <= 1
    assert sorted(ratios)[1] > 0.999


def test_lower_and_certified_bounds_meet_on_a_linear_network() -> None:
    network, matrix = linear()
    direction = np.linalg.svd(matrix)[2][0].reshape(network.input_shape)
    largest = np.linalg.norm(matrix, 2)
    attained = lower_at(network, np.ones(network.input_shape), direction)
    assert largest * (1 - 1e-10) <= attained <= largest
    found = lower.bound(network, n_points=4, n_starts=2, n_steps=5).value
    assert largest * (1 - 1e-10) <= found <= largest


@pytest.mark.parametrize("kind", KINDS)
def test_tangent_is_never_above_the_exact_quotient_of_a_one_neuron_network(kind: str) -> None:
    """x -> w phi(a x + b) has the slope |w a phi'|, known for each kind."""
    rng = np.random.default_rng(2)
    slopes = {
        "relu": lambda z: float(z > 0),
        "leaky_relu": lambda z: 1.0 if z > 0 else 0.2,
        "abs": lambda z: 1.0,
        "tanh": lambda z: 1 / math.cosh(z) ** 2,
        "sigmoid": lambda z: 1 / (2 + math.exp(z) + math.exp(-z)),
        "identity": lambda z: 1.0,
    }
    for _ in range(50):
        a, b, w, x = rng.standard_normal(4) * 10.0 ** rng.integers(-2, 2, 4)
        layers = (
            Dense("a", np.array([[a]]), np.array([b])),
            Activation("phi", kind, 0.2),
            Dense("w", np.array([[w]]), np.zeros(1)),
        )
        slope = abs(w * a) * slopes[kind](a * x + b)
        attained = lower_at(Network(layers, (1,)), np.array([x]), np.array([-3.0]))
        assert slope * (1 - 1e-9) - 1e-12 * abs(w * a) <= attained <= slope * (1 + 1e-13)


def test_tangent_of_a_matrix_is_at_or_below_it_in_rational_arithmetic() -> None:
    rng = np.random.default_rng(4)
    for _ in range(20):
        weight, v = rng.standard_normal((3, 4)), rng.standard_normal(4)
        attained = lower_at(Network((Dense("d", weight, np.zeros(3)),), (4,)), np.zeros(4), v)
        image = [sum((Fraction(w) * Fraction(t) for w, t in zip(row, v, strict=True)), Fraction(0)) for row in weight]
        length = sum(Fraction(t) ** 2 for t in v)
        assert Fraction(attained) ** 2 * length <= sum(i * i for i in image)


def test_a_point_on_a_kink_claims_no_more_than_either_side() -> None:
    """At x = 0 the sign of the preactivation is lost in its rounding error: x -> 5 relu(x) - 3 relu(-x)."""
    layers = (
        Dense("a", np.array([[1.0], [-1.0]]), np.zeros(2)),
        Activation("relu", "relu"),
        Dense("b", np.array([[5.0, -3.0]]), np.zeros(1)),
    )
    network = Network(layers, (1,))
    assert lower_at(network, np.array([0.0]), np.array([1.0])) <= 3.0
    assert lower_at(network, np.array([1e-3]), np.array([1.0])) > 4.999999
    assert lower_at(network, np.array([-1e-3]), np.array([1.0])) <= 3.0


def exact_dot(a: Array, b: Array) -> Fraction:
    return sum((Fraction(x) * Fraction(y) for x, y in zip(a.ravel(), b.ravel(), strict=True)), Fraction(0))


def test_an_image_that_cancels_is_not_overestimated() -> None:
    """w v is of the order of its rounding error: a result without error bounds is as often above it as below."""
    rng = np.random.default_rng(6)
    for _ in range(100):
        w, v = rng.standard_normal((1, 9)), rng.standard_normal(9)
        w[0, 8] = -(w[0, :8] @ v[:8]) / v[8]
        attained = lower_at(Network((Dense("d", w, np.zeros(1)),), (9,)), np.zeros(9), v)
        assert Fraction(attained) ** 2 * exact_dot(v, v) <= exact_dot(w, v) ** 2


def test_a_preactivation_that_cancels_is_not_taken_for_positive() -> None:
    rng = np.random.default_rng(0)
    misleading = 0
    for _ in range(200):
        w, x = rng.standard_normal((1, 9)), rng.standard_normal(9)
        layers = (
            Dense("a", w, -(w[:, ::-1] @ x[::-1])),
            Activation("relu", "relu"),
            Dense("b", np.array([[1.0]]), np.zeros(1)),
        )
        active = exact_dot(w, x) + Fraction(layers[0].bias[0]) > 0
        misleading += active != (float((w @ x + layers[0].bias)[0]) > 0)
        attained = lower_at(Network(layers, (9,)), x, w[0])
        assert attained <= (np.linalg.norm(w) if active else 0.0)
    assert misleading > 20


def test_the_larger_of_two_almost_equal_inputs_of_a_window_is_not_guessed() -> None:
    """Two pixels whose values differ by less than their rounding errors; only the first one moves."""
    rng = np.random.default_rng(3)
    misleading = 0
    for _ in range(200):
        w, first, second = rng.standard_normal((3, 9))
        second[8] = ((w @ first) - (w[:8] @ second[:8])) / w[8]
        network = Network((Conv("c", w.reshape(1, 9, 1, 1), np.zeros(1)), MaxPool("p", (1, 2), (1, 2))), (9, 1, 2))
        direction = np.stack([w, np.zeros(9)], axis=1)[:, None]
        wins = exact_dot(w, first) > exact_dot(w, second)
        misleading += wins != (w @ first > w @ second)
        attained = lower_at(network, np.stack([first, second], axis=1)[:, None], direction)
        assert attained <= (np.linalg.norm(w) if wins else 0.0)
    assert misleading > 20


@pytest.mark.parametrize("stride", [1, 2])
def test_max_pooling_is_at_most_its_constant_and_reaches_one(stride: int) -> None:
    rng = np.random.default_rng(1)
    network = Network((MaxPool("p", (2, 2), (stride, stride), (1, 1)),), (1, 5, 5))
    result = lower.bound(network, n_points=64, n_starts=8, n_steps=0)
    assert 1 - 1e-12 <= result.value <= product.bound(network).value
    point = rng.integers(0, 2, (1, 5, 5)).astype(float)  # ties
    assert 0 <= lower_at(network, point, rng.standard_normal((1, 5, 5))) <= product.bound(network).value


def test_dead_networks_give_zero_and_not_an_error() -> None:
    layers = (
        Dense("a", np.ones((2, 2)), np.full(2, -1e9)),
        Activation("relu", "relu"),
        Dense("b", np.zeros((1, 2)), np.ones(1)),
    )
    result = lower.bound(Network(layers, (2,)), n_points=8, n_starts=2, n_steps=5)
    assert result.value == 0.0
    assert verify(result.certificate)


@pytest.mark.parametrize("scale", [1e-100, 1e100, 1e200])
def test_extreme_scales_neither_overflow_into_a_claim_nor_raise(scale: float) -> None:
    network = Network((Dense("d", scale * np.eye(2), np.zeros(2)),), (2,))
    for length in (1e-200, 1.0, 1e200):
        assert lower_at(network, np.ones(2), np.array([length, 0.0])) <= scale
    assert lower_at(network, np.full(2, np.inf), np.ones(2)) == 0.0
    assert lower_at(network, np.ones(2), np.zeros(2)) == 0.0


def exact_derivative(layers: tuple[Layer, ...], point: Array, direction: Array) -> list[Fraction]:
    """Of dense layers and piecewise linear activations, one-sided at kinks, without rounding."""
    x, t = ([Fraction(float(e)) for e in a] for a in (point, direction))
    for layer in layers:
        if isinstance(layer, Dense):
            rows = oracle.rational(layer.weight)
            x, t = ([sum((w * e for w, e in zip(row, a, strict=True)), Fraction(0)) for row in rows] for a in (x, t))
            x = [e + Fraction(float(b)) for e, b in zip(x, layer.bias, strict=True)]
        elif isinstance(layer, Activation):
            left = {"relu": 0, "abs": -1, "identity": 1}.get(layer.kind, Fraction(layer.negative_slope))
            slopes = [1 if (e or d) > 0 else left for e, d in zip(x, t, strict=True)]
            x, t = ([s * e for s, e in zip(slopes, a, strict=True)] for a in (x, t))
    return t


def claims_too_much(network: Network, point: Array, direction: Array) -> bool:
    attained, exact = Fraction(lower_at(network, point, direction)), exact_derivative(network.layers, point, direction)
    return attained**2 * exact_dot(direction, direction) > sum(e**2 for e in exact)


@pytest.mark.parametrize("slopes", [(5.0, 50.0), (1e-3, 1.0), (1e3, 1e4)])
def test_products_with_slopes_that_are_all_rounded_up_are_not_overestimated(slopes: tuple[float, float]) -> None:
    """Each slope is one of 50 whose product with the tangent so far is rounded up most."""
    rng = np.random.default_rng(0)
    layers: tuple[Layer, ...] = ()
    tangent = 1.0
    for _ in range(60):
        tried = rng.uniform(*slopes, 50)
        slope = max(tried, key=lambda s: Fraction(abs(s * tangent)) / (abs(Fraction(s)) * Fraction(abs(tangent))))
        layers = (*layers, Activation("a", "leaky_relu", float(slope)))
        tangent = math.frexp(slope * tangent)[0]
        assert not claims_too_much(Network(layers, (1,)), np.array([-1.0]), np.ones(1))


def test_derivatives_of_networks_of_any_scale_are_never_above_the_exact_ones() -> None:
    rng, claimed = np.random.default_rng(1), 0
    kinds = ("relu", "leaky_relu", "abs", "identity")
    for _ in range(1000):
        sizes = rng.integers(1, 4, rng.integers(2, 5))
        layers: list[Layer] = []
        for n, m in itertools.pairwise(sizes):
            spread = 10.0 ** rng.uniform(-300, 300, (m, n)) if rng.random() < 0.2 else 10.0 ** rng.uniform(-300, 300)
            weight, bias = spread * rng.standard_normal((m, n)), rng.standard_normal(m) * 10.0 ** rng.uniform(-300, 300)
            layers += [Dense("d", weight, bias * (rng.random() < 0.5))]
            layers += [Activation("a", str(rng.choice(kinds)), 10.0 ** rng.uniform(-9, 9) * rng.choice([-1, 1]))]
        point, direction = (10.0 ** rng.uniform(-300, 300) * rng.standard_normal(sizes[0]) for _ in range(2))
        network = Network(tuple(layers), (int(sizes[0]),))
        claimed += lower_at(network, point, direction) > 0
        assert not claims_too_much(network, point, direction)
    assert claimed > 300


@pytest.mark.parametrize("power", [-1000, -900, -31, 1, 500, 1000])
@pytest.mark.parametrize("last", [None, "relu", "leaky_relu"])
def test_a_power_of_two_in_the_last_layer_is_one_of_the_bound(last: str | None, power: int) -> None:
    for seed in range(5):
        body = convolutional(seed, padding=1).layers
        dense_layer = body[-1]
        assert isinstance(dense_layer, Dense)
        scaled = Dense("d", np.ldexp(dense_layer.weight, power), np.ldexp(dense_layer.bias, power))
        after = () if last is None else (Activation("last", last, 0.3),)
        rng = np.random.default_rng(seed)
        x, v = rng.standard_normal((2, 2, 4, 4))
        values = [lower_at(Network((*body[:-1], d, *after), (2, 4, 4)), x, v) for d in (dense_layer, scaled)]
        assert values[1] == math.ldexp(values[0], power)


def test_many_layers_neither_overflow_nor_vanish() -> None:
    layers = [Dense("d", np.array([[2.0**power]]), np.zeros(1)) for power in (900, -900) * 100]
    for order in (layers, sorted(layers, key=lambda d: d.weight[0, 0])):
        assert 1 - 1e-12 <= lower_at(Network(tuple(order), (1,)), np.ones(1), np.ones(1)) <= 1


def test_ascent_beats_sampling_as_many_points() -> None:
    network = convolutional(3, padding=1)
    deep = Network((*network.layers, Activation("b", "relu"), dense(np.random.default_rng(5), 2, 2)), (2, 4, 4))
    sampled = lower.bound(deep, n_points=2000, n_steps=0).value
    assert lower.bound(deep, n_points=64, n_starts=8, n_steps=100).value >= sampled * (1 - 1e-9)


def test_a_seed_gives_the_same_point_again_and_data_is_used() -> None:
    network = shallow(0)
    first, again = (lower.bound(network, n_points=8, n_starts=2, n_steps=10, seed=3) for _ in range(2))
    assert first.value == again.value
    assert (first.certificate.point == again.certificate.point).all()
    far = np.full((5, 4), 1e3) + np.random.default_rng(0).standard_normal((5, 4))
    with_data = lower.bound(network, n_points=5, n_starts=1, n_steps=0, data=far)
    assert np.abs(with_data.certificate.point).max() > 100


SEARCH = """
import numpy as np
from certlip.methods import lower
from certlip.network import Activation, Conv, Dense, Flatten, Network
rng = np.random.default_rng(0)
layers = []
for n_in in (1, 6, 6):
    layers += [Conv(f"c{len(layers)}", rng.standard_normal((6, n_in, 3, 3)) / 4, rng.standard_normal(6) / 4)]
    layers += [Activation(f"a{len(layers)}", "relu")]
layers += [Flatten("f"), Dense("d", rng.standard_normal((10, 96)) / 10, np.zeros(10))]
network = Network(tuple(layers), (1, 10, 10))
print([lower.bound(network, n_points=32, n_starts=4, n_steps=80, seed=seed).value for seed in range(2)])
"""


def test_a_processor_that_rounds_otherwise_finds_the_same() -> None:
    """With the instructions that every x86 processor has, and with all of this one."""
    found = []
    for instructions in ({"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}, {}):
        command = [sys.executable, "-c", SEARCH]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", **instructions}
        output = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=300
        ).stdout
        found.append(json.loads(output))
    assert found[0] == pytest.approx(found[1], rel=1e-12)


def test_time_limit_ends_the_search_with_what_was_found() -> None:
    result = lower.bound(shallow(0), n_steps=10**9, max_seconds=0.5)
    assert "the time limit ended the search early" in result.reason
    assert lower.bound(shallow(0), n_steps=1).reason == ""
    assert verify(result.certificate)


def test_a_raised_value_or_a_moved_point_does_not_verify() -> None:
    certificate = lower.bound(shallow(1), n_points=16, n_starts=4, n_steps=10).certificate
    assert not verify(dataclasses.replace(certificate, value=math.nextafter(certificate.value, math.inf)))
    assert not verify(dataclasses.replace(certificate, direction=certificate.direction[::-1].copy()))
