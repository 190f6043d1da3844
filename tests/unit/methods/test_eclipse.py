"""ECLipsE and ECLipsE-Fast: their recursions against the papers' formulas, their values against slow truth."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from dense_networks import SLOPES, dense_network, random_weights
from hypothesis import given, settings
from random_networks import networks, random_network

from certlip import sdp
from certlip.base.errors import LimitExceeded, UnsupportedLayer
from certlip.methods import eclipse, eclipse_fast, lipsdp_layer
from certlip.network import Activation, Conv, MaxPool, Network
from certlip.network.chain import Chain, relu_chain
from certlip.proof.lmi import Lmi
from certlip.sdp.dense import dense_matrix


@given(networks(max_hidden=6, scales=(1.0, 1.0, 1e-3, 1e3)))
@settings(max_examples=40)
def test_eclipse_fast_is_never_below_the_constant(network):
    assert oracle.is_at_least(eclipse_fast.bound(network).value, network)


@given(networks(max_hidden=6, scales=(1.0,)))
@settings(max_examples=15)
def test_eclipse_is_never_below_the_constant(network):
    assert oracle.is_at_least(eclipse.bound(network).value, network)


def published_fast(weights) -> float:
    """The recursion for ReLU as in the paper, with plain inverses."""
    x = np.eye(weights[0].shape[1])
    for w in weights[:-1]:
        s = w @ np.linalg.inv(x) @ w.T
        steepness = 2 / np.linalg.eigvalsh(s)[-1]
        x = steepness * np.eye(len(s)) - steepness**2 / 4 * s
    w = weights[-1]
    return float(np.sqrt(np.linalg.eigvalsh(w @ np.linalg.inv(x) @ w.T)[-1]))


@pytest.mark.parametrize("seed", range(5))
def test_eclipse_fast_is_the_published_value_but_for_the_margin(seed):
    weights = random_weights(seed, 5, 7, 6, 3)
    published = published_fast(weights)
    assert published * (1 - 1e-12) <= eclipse_fast.bound(dense_network(*weights)).value <= published * (1 + 1e-8)


@pytest.mark.parametrize("slopes", SLOPES)
def test_proposed_multipliers_of_eclipse_fast_are_feasible_as_they_are(slopes):
    weights = random_weights(1, 4, 6, 5, 3)
    lmi = Lmi(tuple(weights), (slopes, slopes))
    multipliers = eclipse_fast.propose(lmi)
    certified = sdp.certify(lmi, multipliers)
    assert certified.slack <= 1e-9
    assert certified.rho <= max(map(abs, slopes)) ** 4 * np.prod([np.linalg.norm(w, 2) ** 2 for w in weights]) * (
        1 + 1e-7
    )


@pytest.mark.parametrize("slopes", SLOPES)
def test_the_steepness_makes_the_smallest_eigenvalue_of_the_schur_complement_largest(slopes):
    s = np.diag(np.linspace(0.1, 2.0, 6))

    def smallest(factor: float) -> float:
        steepness = np.full(6, factor * eclipse_fast._steepness(s, slopes))
        return float(np.linalg.eigvalsh(eclipse_fast.schur_complement(s, steepness, slopes))[0])

    best = smallest(1.0)
    assert best == pytest.approx(1 / (max(map(abs, slopes)) ** 2 * 2.0), rel=1e-9)
    if sum(slopes):
        assert best >= max(smallest(0.9), smallest(1.05)) - 1e-12


@pytest.mark.parametrize("slopes", SLOPES)
def test_the_schur_complement_is_that_of_the_matrix_inequality(slopes):
    (w,) = random_weights(2, 4, 5)
    t = np.full(5, 0.05)
    lmi = Lmi((w, np.zeros((1, 5))), (slopes,))
    p = dense_matrix(lmi, 1.0, (t,))
    expected = p[4:, 4:] - p[4:, :4] @ np.linalg.solve(p[:4, :4], p[:4, 4:])
    found = eclipse_fast.schur_complement(eclipse_fast.seen_through(w, np.eye(4)), 2 * t, slopes)
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_one_hidden_layer_of_eclipse_is_lipsdp(seed):
    weights = random_weights(seed, 5, 8, 3)
    found, lipsdp = eclipse.bound(dense_network(*weights)), sdp.solve(weights, rtol=1e-6).bound
    assert lipsdp * (1 - 1e-4) <= found.value <= lipsdp * (1 + 1e-4)
    assert found.details["n_sdps"] == 1


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["relu", "leaky_relu", "abs", "tanh", "sigmoid"])
def test_eclipse_and_its_fast_form_lie_above_what_they_relax(seed, kind):
    network = dense_network(*random_weights(seed, 4, 6, 6, 3), kind=kind)
    chain = Chain.of(network)
    neuron = sdp.solve_lmi(Lmi.of(chain), rtol=1e-6).bound
    assert eclipse.bound(network).value >= neuron * (1 - 1e-5)
    assert eclipse_fast.bound(network).value >= lipsdp_layer.bound(network).value * (1 - 1e-4)


def test_eclipse_is_usually_tighter_than_its_fast_form():
    found = [dense_network(*random_weights(seed, 6, 8, 8, 4)) for seed in range(6)]
    assert all(eclipse.bound(network).value < eclipse_fast.bound(network).value for network in found)


def test_constant_networks_get_a_bound_near_zero():
    weights = [np.ones((3, 2)), np.zeros((3, 3)), np.ones((2, 3))]
    assert 0 <= eclipse_fast.bound(dense_network(*weights)).value < 1e-9
    assert 0 <= eclipse.bound(dense_network(*weights)).value < 1e-4


def test_each_small_program_uses_the_named_solver():
    network = dense_network(*random_weights(0, 3, 4, 4, 2))
    found = eclipse.bound(network, solver="scs")
    assert found.details["solver"] == "scs"
    assert found.details["n_sdps"] == 2
    assert oracle.is_at_least(found.value, network)


def test_eclipse_without_time_is_its_fast_form_and_says_so():
    network = dense_network(*random_weights(0, 3, 4, 4, 2))
    found = eclipse.bound(network, max_seconds=0.0)
    assert found.value == eclipse_fast.bound(network).value
    assert found.reason == (
        "the time limit of 0 s cut it short: the multipliers of hidden layers 1 to 2 are those of ECLipsE-Fast"
    )


def test_the_layers_that_eclipse_has_no_time_for_take_the_closed_form_behind_those_before(monkeypatch):
    network = dense_network(*random_weights(1, 4, 6, 6, 6, 3))
    solved = eclipse._Programs._solve
    monkeypatch.setattr(
        eclipse._Programs, "_solve", lambda self, lmi: None if len(self.solutions) == 2 else solved(self, lmi)
    )
    found = eclipse.bound(network, max_seconds=100.0)
    monkeypatch.undo()
    assert "hidden layers 3 to 3" in found.reason
    assert found.details["n_sdps"] == 2
    assert eclipse.bound(network).value <= found.value * (1 + 1e-6)
    assert found.value <= eclipse_fast.bound(network).value


@pytest.mark.parametrize("method", [eclipse, eclipse_fast, lipsdp_layer])
def test_layers_that_are_no_matrix_are_refused_by_name(method):
    network = Network((Conv("c", np.ones((1, 1, 1, 1)), np.zeros(1)), MaxPool("pool3", (2, 2), (2, 2))), (1, 4, 4))
    with pytest.raises(UnsupportedLayer, match="pool3: no bound for MaxPool"):
        method.bound(network)


@pytest.mark.parametrize("method", [eclipse, eclipse_fast, lipsdp_layer])
def test_networks_whose_inequality_would_not_fit_are_refused_in_words(method):
    convs = [Conv(f"c{i}", np.ones((1, 1, 1, 1)), np.zeros(1)) for i in range(2)]
    network = Network((convs[0], Activation("relu", "relu"), convs[1]), (1, 90, 90))
    with pytest.raises(LimitExceeded, match="order 16200"):
        method.bound(network)


def test_relu_chain_and_network_agree():
    weights = random_weights(9, 3, 5, 2)
    assert Chain.of(dense_network(*weights)).slopes == relu_chain(weights).slopes


@pytest.mark.parametrize("seed", range(6))
def test_random_networks_get_a_certificate_for_what_is_returned(seed):
    network = random_network(seed, scales=(1.0,))
    for method in (eclipse, eclipse_fast):
        found = method.bound(network)
        assert found.certificate.value == found.value
