"""Two hundred layers, with neurons that are never moved or never heard: nothing over- or underflows on the way."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import certlip
from certlip.base.record import Status
from certlip.network import Activation, Array, Conv, Dense, Flatten, Network
from certlip.proof.lmi import Lmi
from certlip.proof.proposals import smallest_rho, start
from certlip.sdp.structured.neurons import Neurons

DEPTH = 200


def matrices(depth: int, width: int, dead: tuple[int, ...] = ()) -> list[Array]:
    """W_0..W_depth; after a dead layer two neurons have no input and another has no output."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal((width, width)) / np.sqrt(width) for _ in range(depth + 1)]
    for i in dead:
        weights[i][:2] = 0.0
        weights[i + 1][:, -1] = 0.0
    return weights


def dense(depth: int, width: int, dead: tuple[int, ...] = ()) -> Network:
    layers: list[Dense | Activation] = []
    for i, weight in enumerate(matrices(depth, width, dead)):
        layers += [Dense(f"d{i}", weight, np.ones(width)), Activation(f"a{i}", "relu")]
    return Network(tuple(layers[:-1]), (width,))


def convolutional(depth: int) -> Network:
    rng = np.random.default_rng(1)
    layers: list[Conv | Activation | Flatten | Dense] = []
    for i in range(depth):
        weight = rng.standard_normal((2, 2 if i else 1, 3, 3)) / 4
        weight[0] *= i not in (5, 6, 90)
        layers += [Conv(f"c{i}", weight, np.zeros(2), padding=(1, 1, 1, 1)), Activation(f"a{i}", "relu")]
    layers += [Flatten("f"), Dense("d", rng.standard_normal((2, 8)), np.zeros(2))]
    return Network(tuple(layers), (1, 2, 2))


@pytest.mark.parametrize("dead", [(3,), (20, 21, 22, 23), (0, DEPTH - 1), tuple(range(1, DEPTH, 7))])
@pytest.mark.parametrize("slopes", [(0.0, 1.0), (-1.0, 1.0), (0.2, 1.0)])
def test_multipliers_of_left_out_neurons_leave_the_inequality_definite(
    dead: tuple[int, ...], slopes: tuple[float, float]
) -> None:
    lmi = Lmi(tuple(matrices(DEPTH, 5, dead)), (slopes,) * DEPTH)
    neurons = Neurons.of(lmi.weights, lmi.slopes)
    kept = Lmi(neurons.weights, neurons.slopes)
    restored = neurons.restore(np.concatenate(start(kept)))
    assert all(np.isfinite(t).all() and (t > 0).all() for t in restored)
    rho, of_kept = smallest_rho(lmi, restored), smallest_rho(kept, start(kept))
    assert rho is not None
    assert of_kept is not None
    assert rho <= of_kept * (1 + 1e-6)


@pytest.mark.parametrize("method", ["product", "gram", "eclipse_fast", "lipsdp_layer", "lipsdp", "seqlip", "liplt"])
@pytest.mark.parametrize("shape", ["dense", "convolutional"])
def test_two_hundred_layers_have_a_bound_or_a_sentence(method: str, shape: str) -> None:
    network = dense(DEPTH, 4, (3, 50, 51, 120)) if shape == "dense" else convolutional(DEPTH)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        record = certlip.bound(network, method=method, max_seconds=3)
    if record.status is not Status.OK:
        assert record.status is Status.TIME_LIMIT
        assert record.reason
    elif record.certificate is not None:
        assert certlip.verify(record.certificate)
