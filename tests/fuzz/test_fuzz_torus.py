"""Random small graphs of everything that lives on a torus: nothing is proved below what differences attain.

50 graphs here, 2000 new ones with ``make nightly``. Where a graph is linear, or nearly, the bound is its norm or
little more, so that a wrong phase, alias, window or radius shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from nightly import examples
from random_networks import DEGENERATE, random_pool

from certlip.base.errors import DataError, UnsupportedLayer
from certlip.network import Activation, Array, Concat, Conv, Dense, Flatten, Layer, Network, Shape, Sum
from certlip.proof.torus_proof import Inequality
from certlip.proof.torus_relaxation import Relaxation
from certlip.sdp.torus.solve import solve

MOST_ENTRIES = 80
"""Of a map."""
FACTORS = (1.0, 0.0, -1.0, 0.5, "by channel")
SLOPES = (0.1, 1.5, -0.5, 1.0, -1.0)
STEEP = ("one huge", "one tiny", "subnormal")
"""Weights beside which rounding hides what the others attain."""

Choose = Callable[[Sequence[Any]], Any]


@settings(max_examples=examples(50), suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**6), st.data())
def test_nothing_is_proved_below_what_a_random_graph_attains(seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(lambda options: data.draw(st.sampled_from(options)), rng)
    assume(graph.layers)
    try:
        relaxation = Relaxation.of(graph)
    except UnsupportedLayer:
        return
    found = solve(relaxation, rtol=1e-2)
    if not math.isfinite(found.rho):
        return
    least = attained(graph, rng) * (1 - 1e-5)
    assert math.sqrt(found.rho) >= least
    # the ascent never proposes less than its own lower bound: what does the proof say of less?
    for share in (1.0, least**2 / found.rho):
        multipliers = [share * t for t in found.multipliers]
        assert not least or not Inequality(relaxation, least**2, multipliers).holds().all()


@settings(max_examples=examples(200), suppress_health_check=list(HealthCheck))
@given(st.integers(0, 10**6), st.data())
def test_the_chain_of_a_random_graph_is_the_same_function_or_refused(seed: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(seed)
    graph = random_graph(lambda options: data.draw(st.sampled_from(options)), rng)
    try:
        chain = graph.chain
    except UnsupportedLayer:
        return
    assert chain.is_chain
    inputs = rng.standard_normal((5, *graph.input_shape))
    values = graph.values_of(inputs)
    with np.errstate(invalid="ignore"):
        size = max(float(np.abs(value).max(initial=0.0)) for value in values)
        difference = np.abs(chain.forward(inputs) - values[-1]).max(initial=0.0)
    assert difference <= 1e-11 * size


def random_graph(choose: Choose, rng: np.random.Generator) -> Network:
    """Up to seven times a sum, a concatenation of channels, or one or two layers."""
    graph = Network((), (choose((1, 2)), choose((1, 2, 3, 4)), choose((1, 2, 3, 4))))
    for index in range(choose(range(1, 8))):
        shapes = graph.shapes
        source = choose((len(shapes) - 1, len(shapes) - 1, choose(range(len(shapes)))))
        shape = shapes[source]
        alike = [i for i, other in enumerate(shapes) if other[1:] == shape[1:]]
        name = f"step{index}"
        match choose(("sum", "concat", "layers", "layers")):
            case "sum":
                sources = [choose([i for i in alike if shapes[i] == shape]) for _ in range(choose((1, 2, 3)))]
                factors = tuple(_factor(choose(FACTORS), shape, rng) for _ in sources)
                added: list[Layer] = [Sum(name, factors, rng.standard_normal(()))]
            case "concat":
                sources = [choose(alike) for _ in range(choose((1, 2)))]
                added = [Concat(name, 0)]
            case _:
                sources = [source]
                added = list(_layers(choose, rng, name, shape))
        further = tuple((len(shapes) + i,) for i in range(len(added) - 1))
        longer = Network((*graph.layers, *added), graph.input_shape, (*graph.sources, tuple(sources), *further))
        if math.prod(longer.shapes[-1]) <= MOST_ENTRIES:
            graph = longer
    return graph


def _factor(factor: Any, shape: Shape, rng: np.random.Generator) -> Array:
    return rng.standard_normal((shape[0], *[1] * (len(shape) - 1))) if factor == "by channel" else np.array(factor)


def _layers(choose: Choose, rng: np.random.Generator, name: str, shape: Shape) -> Iterator[Layer]:
    for part in range(choose((1, 2))):
        layer = _layer(choose, rng, f"{name}.{part}", shape)
        shape = layer.output_shape(shape)
        yield layer


def _layer(choose: Choose, rng: np.random.Generator, name: str, shape: Shape) -> Layer:
    kinds = ["linear", "linear", "activation"]
    if len(shape) == 3:
        kinds += ["pool", "mean"] + ["flatten"] * (math.prod(shape[1:]) == 1)
    match choose(kinds):
        case "linear" if len(shape) == 1:
            n = choose((1, 2, 3))
            return Dense(name, _weight(choose, rng, (n, shape[0])), rng.standard_normal(n))
        case "linear":
            return _conv(choose, rng, name, shape)
        case "pool":
            return random_pool(int(rng.integers(99)), shape)
        case "mean":
            weight = np.full((shape[0], 1, *shape[1:]), 1 / math.prod(shape[1:]))
            return Conv(name, weight, np.zeros(shape[0]), groups=shape[0])
        case "flatten":
            return Flatten(name)
    return Activation(name, choose(("relu", "leaky_relu", "abs", "identity")), choose(SLOPES))


def _conv(choose: Choose, rng: np.random.Generator, name: str, shape: Shape) -> Conv:
    """Of any kernel, stride, dilation, groups and uneven padding, or a pointwise one where they do not fit."""
    groups = choose([g for g in (1, 2, 3) if shape[0] % g == 0])
    c_out = groups * choose((1, 2))
    kernel, stride, dilation = (tuple(choose(o) for _ in "rc") for o in ((1, 2, 3), (1, 1, 1, 2, 3), (1, 1, 2)))
    padding = tuple(choose((0, 0, 1, 2, 4)) for _ in range(4))
    weight = _weight(choose, rng, (c_out, shape[0] // groups, *kernel))
    conv = Conv(name, weight, rng.standard_normal(c_out), stride, padding, dilation, groups)
    try:
        fits = math.prod(conv.output_shape(shape)) <= MOST_ENTRIES
    except DataError:
        fits = False
    return conv if fits else Conv(name, weight[:, :, :1, :1], conv.bias, groups=groups)


def _weight(choose: Choose, rng: np.random.Generator, shape: Shape) -> Array:
    change = choose((None, None, None, *(d for d in DEGENERATE if d not in STEEP)))
    weight = rng.standard_normal(shape)
    return weight if change is None else DEGENERATE[change](weight)


def attained(graph: Network, rng: np.random.Generator) -> float:
    """The largest difference quotient or Jacobian norm at some points, up to rounding."""
    n = math.prod(graph.input_shape)

    def values(x: Array) -> Array:
        return graph.forward(x.reshape(-1, *graph.input_shape)).reshape(len(x), -1)

    largest = 0.0
    for scale in (0.1, 1.0, 1.0, 10.0, 100.0):
        x, steps = scale * rng.standard_normal((1, n)), 1e-5 * scale * np.eye(n)
        here = values(x)
        forward, backward = (values(x + steps) - here, here - values(x - steps))
        if np.abs(forward - backward).max() <= 1e-7 * np.abs(forward).max():  # no kink between
            largest = max(largest, float(np.linalg.norm(forward, 2)) / (1e-5 * scale))
        moves = rng.standard_normal((20, n)) * 10.0 ** rng.uniform(-2, 2, (20, 1))
        moved = np.linalg.norm(values(x + moves) - here, axis=1)
        largest = max(largest, float((moved / np.linalg.norm(moves, axis=1)).max()))
    return largest
