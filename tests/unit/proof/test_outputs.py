"""Enclosures of a network's outputs against exact arithmetic, and for smooth activations against fifty digits."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import mpmath
import numpy as np
import oracle
import pytest
from exact import Exact
from hypothesis import given
from hypothesis import strategies as st
from random_networks import networks, random_network

from certlip.network import (
    Activation,
    Array,
    Concat,
    Conv,
    Dense,
    Flatten,
    Layer,
    Maximum,
    MaxPool,
    Network,
    Shape,
    Softmax,
    Sort,
    Sum,
)
from certlip.proof.tangent import lower_at, outputs_within


def exact_outputs(network: Network, point: Array) -> Exact:
    """Without any rounding, one layer after the other."""
    values = [Exact.of(point)]
    for layer, sources, shape in zip(network.layers, network.sources, network.shapes[1:], strict=True):
        shape_before = network.shapes[sources[0]]
        value = _exact_layer(layer, [values[s] for s in sources], shape_before, shape)
        values.append(Exact(value.integers.reshape(shape), value.exponent))
    return values[-1]


def _exact_layer(layer: Layer, inputs: list[Exact], before: Shape, after: Shape) -> Exact:
    x = inputs[0]
    match layer:
        case Dense() | Conv():
            flat = Exact(x.integers.reshape(-1), x.exponent)
            bias = np.repeat(layer.bias, math.prod(after[1:]))
            return Exact.of(oracle.dense_matrix(layer, before)) @ flat + Exact.of(bias)
        case Activation(kind="leaky_relu"):
            slope = np.asarray(layer.negative_slope)
            slopes = np.broadcast_to(slope.reshape(-1, *[1] * (len(before) - 1)), before)
            return _positive(x) - Exact.of(slopes) * _positive(-x)
        case Activation(kind="relu"):
            return _positive(x)
        case Activation(kind="abs"):
            return _positive(x) + _positive(-x)
        case MaxPool():
            return _exact_pool(layer, x, after)
        case Sum():
            total = Exact.of(np.broadcast_to(layer.offset, after))
            for factor, value in zip(layer.factors, inputs, strict=True):
                total = total + Exact.of(np.broadcast_to(factor, after)) * value
            return total
        case Concat():
            lowest = min(value.exponent for value in inputs)
            parts = [value.integers << (value.exponent - lowest) for value in inputs]
            return Exact(np.concatenate(parts, axis=layer.axis), lowest)
        case Maximum():
            lowest = min(value.exponent for value in inputs)
            parts = [value.integers << (value.exponent - lowest) for value in inputs]
            return Exact((np.minimum if layer.least else np.maximum).reduce(parts), lowest)
        case Sort():
            return Exact(np.sort(x.integers, axis=layer.axis), x.exponent)
    return x


def _positive(x: Exact) -> Exact:
    return Exact(np.where(x.integers > 0, x.integers, 0), x.exponent)


def _exact_pool(layer: MaxPool, x: Exact, after: Shape) -> Exact:
    found = np.empty(after, dtype=object)
    rows, columns = x.integers.shape[1:]
    for c, i, j in itertools.product(*map(range, after)):
        places = itertools.product(
            range(i * layer.stride[0] - layer.padding[0], i * layer.stride[0] - layer.padding[0] + layer.kernel[0]),
            range(j * layer.stride[1] - layer.padding[1], j * layer.stride[1] - layer.padding[1] + layer.kernel[1]),
        )
        found[c, i, j] = max(x.integers[c, u, v] for u, v in places if 0 <= u < rows and 0 <= v < columns)
    return Exact(found, x.exponent)


def holds(network: Network, points: Array) -> bool:
    """Whether each exact output is within the error of the computed one."""
    values, errors = outputs_within(network, points)
    return all(
        bool((_absolute(exact_outputs(network, p) - Exact.of(v)) <= Exact.of(e)).all())
        for p, v, e in zip(points, values, errors, strict=True)
    )


class _Compared(Exact):
    def __le__(self, other: Exact) -> np.ndarray:
        lowest = min(self.exponent, other.exponent)
        return (self.integers << (self.exponent - lowest)) <= (other.integers << (other.exponent - lowest))


def _absolute(x: Exact) -> _Compared:
    return _Compared(np.abs(x.integers), x.exponent)


def points_of(network: Network, n: int, seed: int = 0) -> Array:
    rng = np.random.default_rng(seed)
    scales = 10.0 ** rng.uniform(-2, 2, (n, *[1] * len(network.input_shape)))
    return scales * rng.standard_normal((n, *network.input_shape))


KINDS = ("relu", "leaky_relu", "abs", "identity", "prelu")


@given(networks(kinds=KINDS, pooled=True, degenerate=True), st.integers(0, 99))
def test_exact_outputs_lie_within_what_is_claimed(network: Network, seed: int) -> None:
    assert holds(network, points_of(network, 3, seed))


def residual(seed: int) -> Network:
    """Sums with factors and an offset, and a concatenation."""
    rng = np.random.default_rng(seed)
    conv = Conv("a", rng.standard_normal((2, 2, 3, 3)), rng.standard_normal(2), padding=(1, 1, 1, 1))
    layers = (
        conv,
        Activation("b", "relu"),
        Sum("c", (np.array(0.3), rng.standard_normal((2, 1, 1))), rng.standard_normal((2, 3, 3))),
        Concat("d", 0),
        Flatten("e"),
        Dense("f", rng.standard_normal((3, 36)) * 10.0 ** rng.integers(-5, 5), rng.standard_normal(3)),
    )
    return Network(layers, (2, 3, 3), ((0,), (1,), (2, 0), (3, 1), (4,), (5,)))


@pytest.mark.parametrize("seed", range(8))
def test_sums_and_concatenations_are_enclosed(seed: int) -> None:
    network = residual(seed)
    assert holds(network, points_of(network, 4, seed))


@pytest.mark.parametrize("exponent", [-1040, -600, 0, 600])
def test_factors_of_any_size_are_enclosed(exponent: int) -> None:
    rng = np.random.default_rng(0)
    factors = np.ldexp(rng.standard_normal((2, 3)), exponent)
    for offset in (0.0, 1.0, 2.0**-1070, 2.0**900):
        layers = (Sum("a", (factors[0], factors[1]), np.array(offset)),)
        network = Network(layers, (3,), ((0, 0),))
        assert holds(network, rng.standard_normal((4, 3)))


@pytest.mark.parametrize("kind", ["tanh", "sigmoid"])
def test_smooth_activations_are_enclosed(kind: str) -> None:
    rng = np.random.default_rng(1)
    first, second = 3 * rng.standard_normal((5, 4)), rng.standard_normal((3, 5))
    layers = (Dense("a", first, np.ones(5)), Activation("b", kind), Dense("c", second, np.ones(3)))
    network = Network(layers, (4,))
    points = points_of(network, 20)
    values, errors = outputs_within(network, points)
    phi = mpmath.tanh if kind == "tanh" else lambda x: 1 / (1 + mpmath.exp(-x))
    with mpmath.workdps(60):
        for point, value, error in zip(points, values, errors, strict=True):
            inner = mpmath.matrix(first.tolist()) * mpmath.matrix(point.tolist()) + mpmath.matrix([1] * 5)
            outer = mpmath.matrix(second.tolist()) * inner.apply(phi) + mpmath.matrix([1] * 3)
            assert all(abs(o - mpmath.mpf(v)) <= mpmath.mpf(e) for o, v, e in zip(outer, value, error, strict=True))


@pytest.mark.parametrize("kind", ["tanh", "sigmoid"])
def test_the_library_may_be_wrong_in_the_last_places(kind: str) -> None:
    network = Network((Activation("a", kind),), (200,))
    points = points_of(network, 5)
    values, errors = outputs_within(network, points)
    phi = mpmath.tanh if kind == "tanh" else lambda x: 1 / (1 + mpmath.exp(-x))
    with mpmath.workdps(60):
        for x, value, error in zip(points.ravel(), values.ravel(), errors.ravel(), strict=True):
            assert abs(phi(mpmath.mpf(x)) - mpmath.mpf(value)) <= mpmath.mpf(error)


CARRIED: dict[str, tuple[Layer, tuple[int, ...]]] = {
    "a sum": (Sum("c", (np.array(1.0), np.array(-1.0)), np.array(0.0)), (2, 0)),
    "a concatenation": (Concat("c", 0), (2, 0)),
    "a pool": (MaxPool("c", (2, 1), (1, 1)), (2,)),
    "a leaky slope": (Activation("c", "leaky_relu", 0.5), (2,)),
    "a flattening": (Flatten("c"), (2,)),
    "a sorting": (Sort("c", 1), (2,)),
    "a maximum": (Maximum("c"), (2, 0)),
    "a minimum": (Maximum("c", least=True), (2, 0)),
}


@pytest.mark.parametrize("name", CARRIED)
def test_what_cancelled_before_a_layer_is_carried_through_it(name: str) -> None:
    """Values of size one whose error is that of values of size 1e9."""
    layer, sources = CARRIED[name]
    grown = Conv("a", np.full((1, 1, 1, 1), 1e9 / 3), np.zeros(1))
    back = Sum("b", (np.array(1.0),), np.array(-1e9 / 3))
    network = Network((grown, back, layer), (1, 4, 4), ((0,), (1,), sources))
    points = 1 + 1e-9 * np.random.default_rng(0).standard_normal((4, 1, 4, 4))
    assert np.abs(outputs_within(network, points)[0]).max() < 10
    assert holds(network, points)


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e3, 1e9])
def test_softmax_and_its_slopes_are_enclosed_also_of_what_cancelled(log: bool, scale: float) -> None:
    """Values of size one to 1e3 whose error is that of values of size `scale`."""
    rng = np.random.default_rng(7)
    layers = (Sum("a", (np.array(scale),), np.array(0.0)), Sum("b", (np.array(1.0),), np.array(-scale / 3)))
    layer = Softmax("c", 0, log)
    network = Network((*layers, layer), (4,))
    increments = Network((Dense("a", scale * np.eye(4), np.full(4, -scale / 3)), layer), (4,))
    points = 1 / 3 + rng.uniform(-1, 1, (40, 4)) / scale * 10.0 ** rng.uniform(-2, 3, (40, 1))
    values, errors = outputs_within(network, points)
    with mpmath.workdps(60):
        for x, value, error in zip(points, values, errors, strict=True):
            direction = rng.standard_normal(4)
            inner = [mpmath.mpf(scale) * mpmath.mpf(t) - mpmath.mpf(scale / 3) for t in x]
            powers = [mpmath.exp(t) for t in inner]
            p = [power / mpmath.fsum(powers) for power in powers]
            expected = [mpmath.log(q) for q in p] if log else p
            assert all(abs(e - mpmath.mpf(v)) <= mpmath.mpf(r) for e, v, r in zip(expected, value, error, strict=True))
            mean = mpmath.fsum(q * mpmath.mpf(d) for q, d in zip(p, direction, strict=True))
            moved = [(1 if log else q) * (mpmath.mpf(d) - mean) for q, d in zip(p, direction, strict=True)]
            exact = mpmath.norm(moved) * mpmath.mpf(scale) / mpmath.norm([mpmath.mpf(d) for d in direction])
            assert mpmath.mpf(lower_at(increments, x, direction)) <= exact


def test_errors_are_those_of_rounding_and_no_more() -> None:
    for seed in range(5):
        network = random_network(seed, scales=(1.0,), pooled=True)
        values, errors = outputs_within(network, points_of(network, 5))
        assert errors.max() < 1e-11 * np.abs(values).max()


def test_outputs_are_those_of_the_network() -> None:
    network = random_network(3, pooled=True)
    points = points_of(network, 6)
    values, _ = outputs_within(network, points)
    for point, value in zip(points, values, strict=True):
        assert value == pytest.approx(oracle.forward(network, point), rel=1e-9, abs=1e-9)


def test_of_what_is_not_finite_nothing_is_claimed() -> None:
    layer = Dense("a", np.full((2, 2), 1e300), np.zeros(2))
    network = Network((layer, replace(layer, name="b")), (2,))
    for point in ([np.inf, 1.0], [np.nan, 1.0], [1e300, 1e300]):
        values, errors = outputs_within(network, np.array([point]))
        assert not np.isfinite(values + errors).any()
