"""Constants around a point: slopes that hold of every point within the radius, and what they prove."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from classifiers import classifier, convolutional

import certlip
from certlip.base.errors import UnsupportedLayer
from certlip.certify.margins import with_row
from certlip.network import Activation, Array, Dense, Flatten, MaxPool, Network
from certlip.proof.certificate import LocalCertificate
from certlip.proof.certificate import load as load_certificate
from certlip.proof.local import GRID, WIDTH, _slopes, inequality, slopes_around
from certlip.proof.tangent import lower_at
from certlip.sdp import solve_lmi

NETWORKS = {
    "relu": classifier(0, 5, 12, 12, 9, 3),
    "leaky": classifier(1, 4, 9, 8, 3, kind="leaky_relu"),
    "abs": classifier(2, 4, 8, 6, 3, kind="abs"),
    "tanh": classifier(3, 4, 8, 6, 3, kind="tanh"),
    "convolutional": convolutional(4, side=6),
}
RADII = (0.01, 0.1, 0.5, 2.0)


def points_around(point: Array, radius: float, n: int, seed: int) -> Array:
    """Random points within the radius, half of them on its sphere."""
    rng = np.random.default_rng(seed)
    steps = rng.standard_normal((n, *point.shape))
    lengths = np.where(np.arange(n) % 2, 1.0, rng.random(n)) * radius * (1 - 1e-12)
    norms = np.linalg.norm(steps.reshape(n, -1), axis=1)
    return point + steps * (lengths / norms).reshape(-1, *[1] * point.ndim)


def quotients(network: Network, point: Array, others: Array) -> list[Array]:
    """(phi(y) - phi(y0)) / (y - y0) of each neuron, a layer of activations each, NaN where y is y0: (n, n_i)."""
    values = network.values_of(np.concatenate([point[None], others]))
    found = []
    for layer, (source,), after in zip(network.layers, network.sources, values[1:], strict=True):
        if isinstance(layer, Activation):
            moved, changed = (v[1:] - v[0] for v in (values[source], after))
            with np.errstate(invalid="ignore", divide="ignore"):
                found.append(np.where(abs(moved) > 1e-9, changed / moved, np.nan).reshape(len(others), -1))
    return found


def centre_of(network: Network, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(network.input_shape)


def proved(network: Network, point: Array, radius: float) -> LocalCertificate:
    slopes = slopes_around(network, point, radius)
    solved = solve_lmi(inequality(network, slopes), rtol=1e-5)
    return LocalCertificate(network, point, radius, slopes, solved.rho, solved.multipliers)


@pytest.mark.parametrize("radius", RADII)
@pytest.mark.parametrize("name", NETWORKS)
def test_no_slope_within_the_radius_is_outside(name: str, radius: float) -> None:
    network = NETWORKS[name]
    for seed in range(5):
        point = centre_of(network, seed)
        slopes = slopes_around(network, point, radius)
        for (smallest, largest), seen in zip(
            slopes, quotients(network, point, points_around(point, radius, 2000, seed)), strict=True
        ):
            assert (np.nanmin(seen, axis=0) >= smallest - 1e-6).all()
            assert (np.nanmax(seen, axis=0) <= largest + 1e-6).all()


@pytest.mark.parametrize("name", ["relu", "convolutional"])
def test_slopes_of_a_smaller_radius_do_not_hold_of_a_larger_one(name: str) -> None:
    """So that the test above can fail."""
    network, radius = NETWORKS[name], 0.5
    point = centre_of(network)
    (smallest, largest), *_ = slopes_around(network, point, radius)
    seen, *_ = quotients(network, point, points_around(point, 3 * radius, 4000, 0))
    assert (np.nanmin(seen, axis=0) < smallest - 1e-3).any() or (np.nanmax(seen, axis=0) > largest + 1e-3).any()


def test_slopes_of_a_first_layer_are_attained() -> None:
    """There the distance is the radius times the norm of a row, which a step along the row takes."""
    network, radius = classifier(5, 6, 40, 2), 0.7
    point = centre_of(network)
    weight = network.layers[0].weight
    rows = radius * weight / np.linalg.norm(weight, axis=1, keepdims=True)
    (smallest, largest), *_ = slopes_around(network, point, radius)
    seen = np.stack([quotients(network, point, point + sign * rows)[0] for sign in (1, -1)])
    ends = np.diagonal(np.nanmin(seen, axis=0)), np.diagonal(np.nanmax(seen, axis=0))
    assert np.abs(ends[0] - smallest).max() <= WIDTH + 2 / GRID
    assert np.abs(ends[1] - largest).max() <= 2 / GRID
    assert (smallest == 1 - WIDTH).any()
    assert (largest == 0).any()
    assert ((smallest > 0.1) & (smallest < 0.9)).any()


@pytest.mark.parametrize("name", NETWORKS)
def test_a_constant_holds_within_its_radius_and_is_below_that_of_the_whole_space(name: str) -> None:
    network = with_row(NETWORKS[name], (0, 1))
    whole = certlip.bound(network, method="lipsdp", rtol=1e-5).value
    point = centre_of(network)
    at_point = jacobian_norm(network, point)
    values = []
    for radius in RADII:
        certificate = proved(network, point, radius)
        assert certlip.verify(certificate)
        others = points_around(point, radius, 3000, 1)
        moved = np.abs(network.forward(others) - network.forward(point[None]))[:, 0]
        assert (moved <= certificate.value * np.linalg.norm((others - point).reshape(3000, -1), axis=1) + 1e-12).all()
        assert certificate.value >= at_point
        assert certificate.value <= whole * (1 + 1e-4)
        values.append(certificate.value)
    assert all(larger >= smaller * (1 - 1e-4) for smaller, larger in pairwise(values))
    assert values[0] < 0.9 * whole


def jacobian_norm(network: Network, point: Array) -> float:
    """Of one output at a point, rounded down."""
    step = 1e-6 * np.eye(point.size).reshape(-1, *point.shape)
    gradient = (network.forward(point + step) - network.forward(point - step))[:, 0] / 2e-6
    return lower_at(network, point, gradient.reshape(point.shape))


def test_where_no_neuron_changes_sides_the_constant_is_that_of_a_linear_map() -> None:
    network = with_row(classifier(6, 4, 10, 8, 3), (2, 0))
    point = centre_of(network, 1)
    value, exact = proved(network, point, 1e-5).value, jacobian_norm(network, point)
    assert 0 < exact <= value <= exact * (1 + 1e-2)
    assert value < 0.8 * certlip.bound(network, method="lipsdp").value


def test_where_all_neurons_are_off_the_constant_is_nearly_zero() -> None:
    layers = (Dense("a", np.eye(3), -5 * np.ones(3)), Activation("b", "relu"), Dense("c", np.ones((1, 3)), np.zeros(1)))
    certificate = proved(Network(layers, (3,)), np.zeros(3), 1.0)
    assert certlip.verify(certificate)
    assert certificate.value < 1e-2


FORGERIES = {
    "a smaller rho": lambda c: replace(c, rho=0.9 * c.rho),
    "a larger radius": lambda c: replace(c, radius=4 * c.radius),
    "another point": lambda c: replace(c, point=c.point + 1.0),
    "narrower slopes": lambda c: replace(c, slopes=tuple((0.5 * (a + b), b) for a, b in c.slopes)),
    "steep slopes left out": lambda c: replace(c, slopes=tuple((a, 0.5 * (a + b)) for a, b in c.slopes)),
    "no slopes": lambda c: replace(c, slopes=()),
    "slopes of fewer neurons": lambda c: replace(c, slopes=tuple((a[1:], b[1:]) for a, b in c.slopes)),
    "slopes that are no numbers": lambda c: replace(c, slopes=tuple((a * np.nan, b) for a, b in c.slopes)),
    "infinite slopes": lambda c: replace(c, slopes=tuple((a, b + np.inf) for a, b in c.slopes)),
    "fewer multipliers": lambda c: replace(c, multipliers=c.multipliers[:-1]),
    "no radius": lambda c: replace(c, radius=0.0),
    "a point of another shape": lambda c: replace(c, point=c.point[:2]),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_certificate_does_not_hold(forgery: str) -> None:
    network = with_row(NETWORKS["relu"], (0, 1))
    certificate = proved(network, centre_of(network), 0.3)
    assert certlip.verify(certificate)
    verification = certlip.verify(FORGERIES[forgery](certificate))
    assert not verification
    assert verification.reason


@pytest.mark.parametrize("seed", range(12))
def test_slopes_that_are_given_are_enough_for_their_own_proof(seed: int) -> None:
    """Wider slopes in one layer may ask for narrower ones in the next: a proof goes by those that it has."""
    network = with_row(classifier(seed, 8, 40, 40, 30, 3), (0, 1))
    point = centre_of(network, seed)
    slopes = slopes_around(network, point, 0.3)
    needed = _slopes(network, point, 0.3, slopes)
    steps = 1.5 / GRID + WIDTH
    for (smallest, largest), (least, most) in zip(slopes, needed, strict=True):
        assert (smallest <= least).all()
        assert (most <= largest).all()
        assert max((least - smallest).max(), (largest - most).max()) <= steps


def test_a_saved_certificate_is_verified(tmp_path: Path) -> None:
    network = with_row(NETWORKS["convolutional"], (0, 2))
    certificate = proved(network, centre_of(network), 0.2)
    certificate.save(tmp_path / "local.npz")
    loaded = load_certificate(tmp_path / "local.npz")
    assert isinstance(loaded, LocalCertificate)
    assert certlip.verify(tmp_path / "local.npz").value == certificate.value == loaded.value


def test_networks_without_such_slopes_are_refused_by_name() -> None:
    pooled = Network(
        (MaxPool("pool", (2, 2), (2, 2)), Flatten("flat"), Dense("d", np.ones((2, 4)), np.zeros(2))), (1, 4, 4)
    )
    first = Network((Activation("act", "relu"), Dense("d", np.ones((2, 4)), np.zeros(2))), (4,))
    with pytest.raises(UnsupportedLayer, match="pool"):
        slopes_around(pooled, np.zeros((1, 4, 4)), 0.1)
    with pytest.raises(UnsupportedLayer, match="single activations between"):
        slopes_around(first, np.zeros(4), 0.1)
