"""LipSDP-Layer: the barrier against finite differences, the value between its neighbours and above the truth."""

from __future__ import annotations

import itertools

import numpy as np
import oracle
import pytest
from dense_networks import SLOPES, dense_network, random_weights
from hypothesis import given, settings
from random_networks import networks

from certlip import sdp
from certlip.base.deadline import Deadline
from certlip.methods import lipsdp_layer
from certlip.network.chain import Chain
from certlip.proof.lmi import Lmi
from certlip.proof.proposals import smallest_rho


@given(networks(max_hidden=6, scales=(1.0, 1.0, 1e-3, 1e3)))
@settings(max_examples=25)
def test_certified_bound_is_never_below_the_constant(network):
    assert oracle.is_at_least(lipsdp_layer.bound(network).value, network)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["relu", "leaky_relu", "abs", "tanh"])
def test_it_lies_between_lipsdp_neuron_and_the_product(seed, kind):
    weights = random_weights(seed, 4, 6, 5, 3)
    network = dense_network(*weights, kind=kind)
    found = lipsdp_layer.bound(network, rtol=1e-6).value
    assert found >= sdp.solve_lmi(Lmi.of(Chain.of(network)), rtol=1e-6).bound * (1 - 1e-6)
    assert found <= np.prod([np.linalg.norm(w, 2) for w in weights]) * (1 + 1e-5)


@pytest.mark.parametrize("slopes", SLOPES)
def test_no_other_multipliers_of_its_kind_are_better(slopes):
    lmi = Lmi(tuple(random_weights(3, 4, 5, 5, 3)), (slopes, slopes))
    taus, _, early = lipsdp_layer._minimise(lipsdp_layer._Barrier(lmi), 1e-6, Deadline(), lambda *_: None)
    assert not early

    def rho(taus) -> float:
        return smallest_rho(lmi, [np.full(5, tau) for tau in taus]) or np.inf

    best = rho(taus)
    nearby = [rho(taus * np.array(f)) for f in itertools.product((0.5, 0.97, 0.999, 1.001, 1.03, 2.0), repeat=2)]
    assert best <= min(nearby) * (1 + 1e-6)


@pytest.mark.parametrize("slopes", SLOPES)
def test_derivatives_of_the_barrier_are_those_of_its_value(slopes):
    lmi = Lmi(tuple(0.3 * w for w in random_weights(4, 4, 5, 6, 3)), (slopes, slopes))
    barrier = lipsdp_layer._Barrier(lmi)
    start = [t[0] for t in sdp.start(lmi)]
    point = np.array([1.5 * smallest_rho(lmi, sdp.start(lmi)), *start])
    gradient, hessian = barrier.derivatives(point)
    for k, h in enumerate(1e-5 * point):
        step = np.zeros(3)
        step[k] = h
        slope = (barrier.value(point + step) - barrier.value(point - step)) / (2 * h)
        assert gradient[k] == pytest.approx(slope, rel=1e-5)
        column = (barrier.derivatives(point + step)[0] - barrier.derivatives(point - step)[0]) / (2 * h)
        np.testing.assert_allclose(hessian[k], column, rtol=1e-4, atol=1e-6 * np.abs(hessian).max())


def test_at_the_time_limit_it_returns_a_certified_bound_and_says_so():
    network = dense_network(*random_weights(5, 60, 60, 60, 60, 60, 10))
    loose = lipsdp_layer.bound(network, max_seconds=0.05)
    tight = lipsdp_layer.bound(network)
    assert "the time limit of 0.05 s cut it short: certified, with a gap of" in loose.reason
    assert not tight.reason
    assert loose.value >= tight.value * (1 - 1e-4)
    assert lipsdp_layer.bound(network, max_seconds=0.0).value >= loose.value * (1 - 1e-4)


def test_more_time_never_gives_a_worse_bound():
    lmi = Lmi.of(Chain.of(dense_network(*random_weights(5, 60, 60, 60, 60, 60, 10))))
    told = []
    lipsdp_layer._minimise(lipsdp_layer._Barrier(lmi), 1e-4, Deadline(), lambda taus, _: told.append(taus))
    values = [smallest_rho(lmi, [np.full(60, tau) for tau in taus]) for taus in told]
    assert len(values) > 10
    assert all(later <= earlier * (1 + 1e-9) for earlier, later in itertools.pairwise(values))


def test_a_constant_network_gets_a_bound_near_zero():
    assert 0 <= lipsdp_layer.bound(dense_network(np.ones((3, 2)), np.zeros((3, 3)), np.ones((2, 3)))).value < 1e-9


COUNTEREXAMPLE = (
    np.array([[0.048, 0.917], [0.371, 0.613], [-0.152, -1.474]]),
    np.array([[1.029, -1.935, -0.24]]),
)


def test_lipsdp_network_with_coupled_multipliers_is_no_bound():
    """T = diag(tau) + sum tau_kl (e_k - e_l)(e_k - e_l)', the third variant of arXiv 1906.04893, is below the truth."""
    import cvxpy as cp

    w0, w1 = COUNTEREXAMPLE
    n = len(w0)
    rho, tau = cp.Variable(nonneg=True), cp.Variable(n, nonneg=True)
    pairs = list(itertools.combinations(range(n), 2))
    coupling = cp.Variable(len(pairs), nonneg=True)
    t = cp.diag(tau) + sum(
        coupling[i] * np.outer(np.eye(n)[k] - np.eye(n)[j], np.eye(n)[k] - np.eye(n)[j])
        for i, (k, j) in enumerate(pairs)
    )
    p = cp.bmat([[rho * np.eye(2), -w0.T @ t], [-t @ w0, 2 * t - w1.T @ w1]])
    cp.Problem(cp.Minimize(rho), [(p + p.T) / 2 >> 0]).solve(solver=cp.CLARABEL)
    coupled = float(np.sqrt(rho.value))
    network = dense_network(*COUNTEREXAMPLE)
    truth = oracle.attained_norm(network)
    assert coupled < 0.6 * truth
    assert oracle.is_at_least(sdp.solve(COUNTEREXAMPLE).bound, network)
    assert oracle.is_at_least(lipsdp_layer.bound(network).value, network)
