"""Small random networks over all layer options: seeded, or as a hypothesis strategy that shrinks their structure."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from certlip.base.errors import DataError
from certlip.network import Activation, Conv, Dense, Flatten, Layer, MaxPool, Network, Shape

Choose = Callable[[Sequence[Any]], Any]
LinearLayer = Conv | Dense

PIECEWISE_LINEAR = ("relu", "leaky_relu", "abs", "identity")

SLOPES = (-0.7, 0.0, 0.0, 0.3, 1.0, 1.0, 1.5)
"""Of the channels of a ``prelu``: some carry their values."""

DEGENERATE: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "equal": lambda w: np.full_like(w, w.flat[0]),
    "zero": np.zeros_like,
    "powers of two": lambda w: np.copysign(np.ldexp(1.0, np.frexp(w)[1]), w),
    "of rank one": lambda w: np.outer(w.reshape(len(w), -1)[:, 0], w[0]).reshape(w.shape),
    "the same in all outputs": lambda w: np.repeat(w[:1], len(w), axis=0),
    "one huge": lambda w: _first_times(w, 1e150),
    "one tiny": lambda w: _first_times(w, 1e-150),
    "subnormal": lambda w: w * 2.0**-1060,
}
"""Weights made of normal ones."""


def random_network(seed: int, **limits: Any) -> Network:
    """A small network, a function of the seed alone; limits: of `build_network`."""
    rng = np.random.default_rng(seed)
    return build_network(lambda options: options[int(rng.integers(len(options)))], seed, **limits)


@st.composite
def networks(draw: Any, **limits: Any) -> Network:
    """Hypothesis strategy; limits: of `build_network`."""
    seed = draw(st.integers(0, 10**6))
    return build_network(lambda options: draw(st.sampled_from(options)), seed, **limits)


def build_network(
    choose: Choose,
    seed: int,
    max_hidden: int = 8,
    max_linear: int = 3,
    kinds: Sequence[str] = PIECEWISE_LINEAR,
    scales: Sequence[float] = (1.0, 1.0, 1.0, 1e-6, 1e6),
    pooled: bool = False,
    degenerate: bool = False,
) -> Network:
    """Convolutions (kernels, strides, paddings, dilations, groups), then dense layers, activations between.

    choose: picks one of a sequence; seed: of the weights; max_hidden: neurons over all activation layers; max_linear:
    linear layers; kinds: of activations, ``prelu`` for leaky ones with a slope a channel; scales: of the weights of a
    layer; pooled: whether max pooling may follow an activation; degenerate: whether the weights of one layer may be
    `DEGENERATE`. Some neurons are dead.
    """
    rng = np.random.default_rng(seed)
    input_shape: Shape = (choose((1, 2)), choose((1, 2, 3, 4)), choose((1, 2, 3)))
    shape, layers = input_shape, list[Layer]()
    n_linear, n_convs, room = choose(range(1, max_linear + 1)), choose(range(max_linear + 1)), max_hidden
    odd, change = (choose(range(n_linear)), choose((None, *DEGENERATE))) if degenerate else (0, None)
    for index in range(n_linear):
        last = index == n_linear - 1
        share = 16 if last else room - (n_linear - 2 - index)
        convs = list(_convs(f"conv{index}", shape, share)) if len(shape) == 3 and index < n_convs else []
        if not convs and len(shape) == 3:
            layers.append(Flatten("flatten"))
            shape = layers[-1].output_shape(shape)
        linear: LinearLayer = (
            choose(convs) if convs else _dense(f"dense{index}", shape, choose(range(1, min(5, share) + 1)))
        )
        kill = choose((False, False, False, True))
        linear = _with_weights(linear, rng, choose(scales), kill)
        if change and index == odd:
            linear = replace(linear, weight=DEGENERATE[change](linear.weight))
        layers.append(linear)
        shape = layers[-1].output_shape(shape)
        if not last:
            room -= math.prod(shape)
            layers.append(_activation(f"act{index}", choose(tuple(kinds)), choose((0.1, 0.3)), shape[0], seed + index))
            if pooled and len(shape) == 3 and choose((False, True)):
                layers.append(replace(random_pool(choose(range(8)), shape), name=f"pool{index}"))
                shape = layers[-1].output_shape(shape)
    return Network(tuple(layers), input_shape)


def _activation(name: str, kind: str, slope: float, channels: int, seed: int) -> Activation:
    if kind != "prelu":
        return Activation(name, kind, negative_slope=slope)
    return Activation(name, "leaky_relu", np.random.default_rng(seed).choice(SLOPES, channels))


def random_convolutions(seed: int, max_hidden: int = 12) -> Network:
    """A small network of convolutions, activations and max pooling alone, a function of the seed."""
    rng = np.random.default_rng(seed)

    def choose(options: Sequence[Any]) -> Any:
        return options[int(rng.integers(len(options)))]

    input_shape: Shape = (choose((1, 2)), choose((1, 2, 3, 4, 5)), choose((1, 2, 3, 4)))
    shape, layers, room, n_convs = input_shape, list[Layer](), max_hidden, choose((1, 2, 3))
    for index in range(n_convs):
        last = index == n_convs - 1
        convs = list(_convs(f"conv{index}", shape, 16 if last else room - (n_convs - 2 - index)))
        if not convs:
            break
        layers.append(_with_weights(choose(convs), rng, 1.0, choose((False, False, True))))
        shape = layers[-1].output_shape(shape)
        if last:
            break
        room -= math.prod(shape)
        kind, slope = choose(("relu", "leaky_relu", "abs", "identity")), choose((0.1, 0.3, 1.5, -0.5))
        layers.append(Activation(f"act{index}", kind, negative_slope=slope))
        if choose((False, False, False, True)):
            layers.append(replace(random_pool(int(rng.integers(99)), shape), name=f"pool{index}"))
            shape = layers[-1].output_shape(shape)
    return Network(tuple(layers), input_shape)


def random_pool(seed: int, shape: Shape) -> MaxPool:
    """A max pooling layer that fits the input shape: overlapping, gapped or padded."""
    rng = np.random.default_rng(seed)
    while True:
        kernel, stride = tuple(rng.integers(1, 4, 2).tolist()), tuple(rng.integers(1, 4, 2).tolist())
        pool = MaxPool("pool", kernel, stride, tuple(int(rng.integers(k // 2 + 1)) for k in kernel))
        try:
            pool.output_shape(shape)
        except DataError:
            continue
        return pool


def _first_times(weight: np.ndarray, factor: float) -> np.ndarray:
    changed = weight.copy()
    changed.flat[0] *= factor
    return changed


def _convs(name: str, shape: Shape, max_size: int) -> Iterator[Conv]:
    """Convolutions, still without weights, whose output on `shape` has at most `max_size` entries."""
    for kernel, stride, padding, dilation, groups, c_out in itertools.product(
        ((1, 1), (2, 2), (3, 3), (1, 3)),
        ((1, 1), (2, 2), (1, 2)),
        ((0, 0, 0, 0), (1, 1, 1, 1), (0, 1, 2, 0), (3, 3, 3, 3)),
        ((1, 1), (2, 1)),
        (1, 2),
        (1, 2),
    ):
        if shape[0] % groups or c_out % groups:
            continue
        weight = np.zeros((c_out, shape[0] // groups, *kernel))
        conv = Conv(name, weight, np.zeros(c_out), stride, padding, dilation, groups)
        try:
            size = math.prod(conv.output_shape(shape))
        except DataError:
            continue
        if size <= max_size:
            yield conv


def _dense(name: str, shape: Shape, n_out: int) -> Dense:
    return Dense(name, np.zeros((n_out, shape[0])), np.zeros(n_out))


def _with_weights(layer: LinearLayer, rng: np.random.Generator, scale: float, kill: bool) -> LinearLayer:
    weight = scale * rng.standard_normal(layer.weight.shape)
    if kill and len(weight) > 1:
        weight[int(rng.integers(len(weight)))] = 0.0
    return replace(layer, weight=weight, bias=rng.standard_normal(len(weight)))
