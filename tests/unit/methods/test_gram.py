"""Gram iteration against the singular values of dense matrices."""

from __future__ import annotations

import itertools

import numpy as np
import oracle
import pytest
import spectrum

from certlip.base.errors import ConfigError, UnsupportedLayer
from certlip.methods import check_options, gram, product
from certlip.network import Activation, Conv, Dense, Flatten, MaxPool, Network
from certlip.proof import norms, torus
from certlip.proof.gram_iteration import Parts, gram_norm, largest_norm
from certlip.verify import verify

RNG = np.random.default_rng(3)

HARD_CONVS = {
    "one pixel kernel": (Conv("c", RNG.standard_normal((3, 2, 1, 1)), np.zeros(3)), (2, 4, 4)),
    "one pixel map": (Conv("c", RNG.standard_normal((3, 2, 3, 3)), np.zeros(3), padding=(1, 1, 1, 1)), (2, 1, 1)),
    "image smaller than kernel": (
        Conv("c", RNG.standard_normal((2, 2, 5, 5)), np.zeros(2), padding=(2, 2, 2, 2)),
        (2, 3, 2),
    ),
    "circular norm too small": (
        Conv("c", np.array([-1.0, 1.0, -1.0]).reshape(1, 1, 1, 3), np.zeros(1), padding=(0, 0, 1, 1)),
        (1, 1, 3),
    ),
    "stride 2": (Conv("c", RNG.standard_normal((3, 2, 3, 3)), np.zeros(3), stride=(2, 2)), (2, 5, 6)),
    "stride above kernel": (Conv("c", RNG.standard_normal((4, 2, 2, 2)), np.zeros(4), stride=(3, 3)), (2, 8, 7)),
    "groups": (Conv("c", RNG.standard_normal((4, 2, 3, 3)), np.zeros(4), groups=2), (4, 5, 5)),
    "depthwise": (
        Conv("c", RNG.standard_normal((3, 1, 3, 3)), np.zeros(3), padding=(1, 1, 1, 1), groups=3),
        (3, 4, 4),
    ),
    "dilation": (
        Conv("c", RNG.standard_normal((2, 2, 3, 3)), np.zeros(2), padding=(2, 2, 2, 2), dilation=(2, 2)),
        (2, 6, 5),
    ),
    "uneven padding": (Conv("c", RNG.standard_normal((2, 1, 2, 2)), np.zeros(2), padding=(0, 1, 3, 0)), (1, 4, 4)),
    "tiny weights": (Conv("c", 1e-6 * RNG.standard_normal((3, 2, 3, 3)), np.zeros(3)), (2, 4, 4)),
    "huge weights": (Conv("c", 1e6 * RNG.standard_normal((3, 2, 3, 3)), np.zeros(3)), (2, 4, 4)),
    "dead channel": (
        Conv("c", RNG.standard_normal((3, 2, 3, 3)) * [[[[0]]], [[[1]]], [[[0]]]], np.zeros(3)),
        (2, 6, 6),
    ),
}


def true_norm(layer: Conv | Dense, shape: tuple[int, ...]) -> float:
    return float(np.linalg.norm(layer.matrix(shape).toarray(), 2))


@pytest.mark.parametrize("n_iter", [0, 1, 5, 12, 60])
@pytest.mark.parametrize("case", HARD_CONVS)
def test_gram_bound_of_a_convolution_is_never_below_its_norm(case: str, n_iter: int) -> None:
    layer, shape = HARD_CONVS[case]
    assert gram.layer_norm(layer, shape, n_iter) >= true_norm(layer, shape)


@pytest.mark.parametrize("scale", [1e-200, 1e-6, 1.0, 1e6, 1e200])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (6, 6), (20, 3), (3, 20)])
def test_gram_bound_of_a_dense_layer_is_never_below_its_norm(shape: tuple[int, int], scale: float) -> None:
    layer = Dense("d", scale * RNG.standard_normal(shape), np.zeros(shape[0]))
    for n_iter in (0, 1, 2, 8, 50):
        assert gram.layer_norm(layer, (shape[1],), n_iter) >= true_norm(layer, (shape[1],))


def test_converged_gram_bound_of_orthogonal_matrices_is_never_below_one() -> None:
    """All singular values equal: the Frobenius norm's slack is gone after many steps, only the margin is left."""
    for n in (1, 2, 5, 30):
        for _ in range(20):
            q = np.linalg.qr(RNG.standard_normal((n, n)))[0]
            value = gram.layer_norm(Dense("q", q, np.zeros(n)), (n,), 60)
            assert np.linalg.norm(q, 2) <= value <= 1 + 1e-12


def test_inner_products_that_are_rounded_down_leave_no_bound_below_the_norm() -> None:
    """Equal entries: every addition of a long inner product is rounded to the same side; the norm is 512 x exactly."""
    down = 0
    for x in RNG.uniform(1, 2, 30):
        row = np.full((1, 1, 2**18), x)
        down += float(row[0, 0] @ row[0, 0]) < 2**18 * x * x * (1 - 1e-14)
        for n_iter in (1, 5, 40):
            assert gram_norm(Parts(row), n_iter) >= 512 * x
        assert largest_norm([Parts(row)]) >= 512 * x
    assert down > 5


@pytest.mark.parametrize("n_iter", [0, 1, 5])
def test_a_norm_that_is_no_normal_number_is_rounded_up(n_iter: int) -> None:
    for _ in range(50):
        weight = np.ldexp(RNG.integers(-9, 10, (2, 3)).astype(float), -1074)
        assert oracle.dominates(gram_norm(Parts(weight[None]), n_iter), oracle.rational(weight))
        assert oracle.dominates(largest_norm([Parts(weight[None])]), oracle.rational(weight))


def test_more_iterations_tighten_the_bound_to_the_torus_norm() -> None:
    layer, shape = HARD_CONVS["stride 2"]
    values = [gram.layer_norm(layer, shape, n) for n in range(12)]
    assert all(later <= earlier * (1 + 1e-13) for earlier, later in itertools.pairwise(values))
    exact = np.linalg.svd(spectrum.matrices(layer, torus.size(layer, shape)), compute_uv=False).max()
    assert exact <= values[-1] <= exact * 1.002


def test_complex_batches_stay_above_their_largest_singular_value() -> None:
    for m, n in ((1, 1), (2, 5), (5, 2), (8, 8)):
        for _ in range(20):
            real, imaginary = RNG.standard_normal((2, 6, m, n)) * 10.0 ** RNG.integers(-150, 150)
            exact = np.linalg.svd(real + 1j * imaginary, compute_uv=False).max()
            for n_iter in (0, 1, 3, 40):
                assert exact <= gram_norm(Parts(real, imaginary), n_iter)


@pytest.mark.parametrize("case", HARD_CONVS)
def test_constant_of_a_convolution_is_proved_and_in_exact_arithmetic_at_or_above_the_norm(case: str) -> None:
    layer, shape = HARD_CONVS[case]
    constant = norms.layer_constant(layer, shape)
    assert norms.holds(layer, shape, constant)
    assert oracle.dominates(constant, oracle.rational(oracle.dense_matrix(layer, shape)))
    found = spectrum.matrices(layer, torus.size(layer, shape))
    assert constant <= np.linalg.svd(found, compute_uv=False).max() * (1 + 1e-9)


def test_iteration_over_batches_finds_the_largest_norm_wherever_it_is() -> None:
    for _ in range(30):
        real, imaginary = RNG.standard_normal((2, 40, 3, 4)) * 2.0 ** RNG.integers(-40, 40, (40, 1, 1))
        batches = [Parts(real[i : i + 7], imaginary[i : i + 7]) for i in range(0, 40, 7)]
        exact = np.linalg.svd(real + 1j * imaginary, compute_uv=False).max()
        assert exact <= largest_norm(batches) <= exact * (1 + 1e-9)


def test_equal_singular_values_do_not_stop_the_iteration_early() -> None:
    q = np.linalg.qr(RNG.standard_normal((40, 40)))[0]
    assert 1 - 1e-14 <= largest_norm([Parts(q[None])]) <= 1 + 1e-9


def test_zero_weights_give_zero() -> None:
    assert gram.layer_norm(Conv("c", np.zeros((2, 1, 3, 3)), np.ones(2)), (1, 5, 5), 5) == 0.0
    assert gram.layer_norm(Dense("d", np.zeros((2, 3)), np.ones(2)), (3,), 5) == 0.0


def small_network() -> Network:
    layers = (
        Conv("conv", RNG.standard_normal((3, 1, 3, 3)), np.zeros(3), padding=(1, 1, 1, 1)),
        Activation("leaky", "leaky_relu", 0.1),
        MaxPool("pool", (2, 2), (1, 1)),
        Flatten("flatten"),
        Dense("dense", RNG.standard_normal((4, 75)), np.zeros(4)),
        Activation("sigmoid", "sigmoid"),
    )
    return Network(layers, (1, 6, 6))


@pytest.mark.parametrize("n_iter", [1, 5, 30])
def test_certificate_of_a_gram_bound_verifies_and_a_smaller_constant_does_not(n_iter: int) -> None:
    network = small_network()
    result = gram.bound(network, n_iter=n_iter)
    assert verify(result.certificate)
    assert result.value >= 0.25 * 2 * np.prod([true_norm(network.layers[i], network.shapes[i]) for i in (0, 4)])
    norm = true_norm(network.layers[4], network.shapes[4])
    assert not norms.holds(network.layers[4], network.shapes[4], norm * (1 - 1e-12))


def test_gram_converges_to_the_norms_on_the_torus_and_the_product_lies_below() -> None:
    network = small_network()
    conv, _, pool, _, dense, sigmoid = network.layers
    on_torus = norms.torus_constant(conv, network.input_shape) if isinstance(conv, Conv) else 0.0
    others = [norms.layer_constant(layer, network.shapes[i]) for i, layer in ((2, pool), (4, dense), (5, sigmoid))]
    converged = gram.bound(network, n_iter=40).value
    assert abs(converged / (on_torus * np.prod(others)) - 1) < 1e-9
    assert product.bound(network).value < converged


def test_scaling_by_a_power_of_two_scales_the_bound_exactly() -> None:
    layer, shape = HARD_CONVS["dilation"]
    scaled = Conv("c", layer.weight * 2.0**70, layer.bias, layer.stride, layer.padding, layer.dilation)
    assert gram.layer_norm(scaled, shape, 5) == 2.0**70 * gram.layer_norm(layer, shape, 5)


def test_an_unknown_layer_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedLayer, match=r"block3\.act: no bound for activation softmax"):
        gram.bound(Network((Activation("block3.act", "softmax"),), (4,)))


def test_a_negative_number_of_steps_is_refused() -> None:
    with pytest.raises(ConfigError, match="n_iter"):
        check_options("gram", gram, {"n_iter": -1})
