"""LipSDP on whole networks and on patches: never below slow truth, in the order that theory says."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import oracle
import pytest
from hypothesis import assume, given
from hypothesis import settings as limit
from hypothesis import strategies as st
from random_networks import PIECEWISE_LINEAR, networks

import certlip
from certlip.base.record import Record, Status
from certlip.network import Activation, Conv, Dense, Flatten, MaxPool, Network

RTOL = 3e-4
"""Between optima that are each found to 1e-4."""


def value(network: Network, method: str, **options: object) -> float:
    record = certlip.bound(network, method=method, **options)
    assert record.status == Status.OK, record.reason
    assert record.value is not None
    return record.value


def dcp_grid(network: Network) -> tuple[int, int]:
    """A grid that the first convolutional segment of the network admits."""
    shapes = [s for s in network.shapes if len(s) == 3]
    return min(2, shapes[-1][1]), min(2, shapes[-1][2])


@limit(max_examples=40)
@given(networks(max_hidden=6))
def test_upper_bounds_of_piecewise_linear_networks_are_never_below_the_exact_constant(network: Network) -> None:
    product = value(network, "product")
    assert oracle.is_at_least(product, network)
    lipsdp = value(network, "lipsdp")
    assert oracle.is_at_least(lipsdp, network)
    for merge in ("sum", "cover"):
        record = certlip.bound(network, method="dcp", grid=dcp_grid(network), merge=merge)
        if record.status == Status.OK:
            assert record.value is not None
            assert oracle.is_at_least(record.value, network)
            assert record.value <= product
        else:
            assert "padding" in record.reason


@limit(max_examples=20)
@given(networks(max_hidden=6, kinds=("tanh", "sigmoid", *PIECEWISE_LINEAR)))
def test_upper_bounds_are_never_below_difference_quotients(network: Network) -> None:
    quotient = oracle.sampled_quotient(network, 0, n=20)
    for method in ("product", "lipsdp", "dcp"):
        record = certlip.bound(network, method=method, **({"grid": (1, 1)} if method == "dcp" else {}))
        assert record.value is not None
        assert record.value >= quotient * (1 - 1e-9)


@limit(max_examples=25)
@given(networks(max_hidden=7))
def test_lipsdp_lies_between_the_exact_constant_and_the_product_of_dense_norms(network: Network) -> None:
    dense = [
        np.linalg.norm(oracle.dense_matrix(layer, shape), 2)
        for layer, shape in zip(network.layers, network.shapes, strict=False)
        if isinstance(layer, Conv | Dense)
    ]
    assume(len(dense) >= 2)  # a single layer is left to its certified constant, on the torus
    slopes = [max(map(abs, layer.slopes)) for layer in network.layers if isinstance(layer, Activation)]
    room = 1e-6 * max(1.0, value(network, "product"))  # a constant network is certified with a little slack
    assert value(network, "lipsdp") <= np.prod([*dense, *slopes]) * (1 + RTOL) + room


def unpadded(seed: int, channels: int, kernel: int, n_convs: int, size: int) -> Network:
    rng = np.random.default_rng(seed)
    layers: list[Conv | Activation] = []
    for index in range(n_convs):
        c_in = 1 if index == 0 else channels
        layers += [
            Conv(f"c{index}", rng.standard_normal((channels, c_in, kernel, kernel)), rng.standard_normal(channels)),
            Activation(f"r{index}", "relu"),
        ]
    return Network(tuple(layers), (1, size, size))


@pytest.mark.parametrize(
    ("seed", "channels", "n_convs", "size"), [(0, 1, 2, 7), (1, 2, 2, 6), (2, 1, 3, 8), (3, 2, 3, 7)]
)
def test_full_lipsdp_is_below_cover_and_cover_below_sum(seed: int, channels: int, n_convs: int, size: int) -> None:
    network = unpadded(seed, channels, 2, n_convs, size)
    full, product = value(network, "lipsdp"), value(network, "product")
    for grid in ((1, 2), (2, 2), (3, 3)):
        cover, total = (value(network, "dcp", grid=grid, merge=merge) for merge in ("cover", "sum"))
        assert full <= min(cover, product) * (1 + RTOL)
        assert cover <= total <= product


def test_a_finer_grid_or_a_deeper_cut_is_never_tighter() -> None:
    network = unpadded(4, 1, 2, 2, 6)
    for merge in ("sum", "cover"):
        coarse, fine = (value(network, "dcp", grid=grid, merge=merge) for grid in ((1, 1), (2, 2)))
        assert coarse <= fine * (1 + RTOL)
        assert coarse <= value(network, "dcp", grid=(1, 1), cuts=["r0"], merge=merge) * (1 + RTOL)


def test_lipsdp_of_a_network_where_a_published_variant_fails_stays_above_the_truth() -> None:
    """LipSDP-Network gives 0.744 here; the constant is 1.387."""
    first = Dense("w0", np.array([[0.048, 0.917], [0.371, 0.613], [-0.152, -1.474]]), np.zeros(3))
    last = Dense("w1", np.array([[1.029, -1.935, -0.24]]), np.zeros(1))
    network = Network((first, Activation("r", "relu"), last), (2,))
    assert oracle.attained_norm(network) > 1.38
    for method in ("lipsdp", "dcp", "product"):
        assert oracle.is_at_least(value(network, method), network)


@pytest.mark.parametrize("factor", [2.0**-20, 2.0**20])
def test_scaling_a_layer_scales_the_bound(factor: float) -> None:
    network = unpadded(5, 2, 2, 2, 5)
    first = network.layers[0]
    assert isinstance(first, Conv)
    scaled = Network((replace(first, weight=first.weight * factor), *network.layers[1:]), network.input_shape)
    for method, options in (("lipsdp", {}), ("dcp", {"grid": (2, 2), "merge": "cover"}), ("product", {})):
        ratio = value(scaled, method, **options) / value(network, method, **options)
        assert 1 - RTOL <= ratio / factor <= 1 + RTOL


def test_orthogonal_and_linear_networks_are_bounded_by_their_exact_constants() -> None:
    rng = np.random.default_rng(6)
    q = [np.linalg.qr(rng.standard_normal((4, 4)))[0] for _ in range(3)]
    layers = list(
        itertools.chain.from_iterable((Dense(f"d{i}", w, np.zeros(4)), Activation("a", "abs")) for i, w in enumerate(q))
    )
    isometry = Network(tuple(layers[:-1]), (4,))
    linear = Network(tuple(layer for layer in layers if isinstance(layer, Dense)), (4,))
    for network in (isometry, linear):
        for method in ("product", "lipsdp"):
            assert 1 - 1e-12 <= value(network, method) <= 1 + RTOL


def test_a_network_that_ignores_its_input_has_a_tiny_bound() -> None:
    layers = (
        Dense("d", np.zeros((3, 2)), np.ones(3)),
        Activation("r", "relu"),
        Dense("e", np.ones((1, 3)), np.zeros(1)),
    )
    assert value(Network(layers, (2,)), "product") == 0.0
    assert 0 <= value(Network(layers, (2,)), "lipsdp") <= 1e-6


def test_one_pixel_maps_and_one_by_one_kernels_are_dense_layers() -> None:
    rng = np.random.default_rng(7)
    w, v = rng.standard_normal((4, 3)), rng.standard_normal((2, 4))
    convs = (
        Conv("c", w[:, :, None, None], np.zeros(4)),
        Activation("r", "relu"),
        Conv("d", v[:, :, None, None], np.zeros(2)),
    )
    dense = (Dense("c", w, np.zeros(4)), Activation("r", "relu"), Dense("d", v, np.zeros(2)))
    for method in ("product", "lipsdp", "dcp"):
        options = {"grid": (1, 1)} if method == "dcp" else {}
        found = [value(Network(convs, (3, 1, 1)), method, **options), value(Network(dense, (3,)), method, **options)]
        assert abs(found[0] / found[1] - 1) <= RTOL


def mixed() -> Network:
    rng = np.random.default_rng(8)
    layers = (
        Conv("c1", rng.standard_normal((2, 1, 3, 3)), np.zeros(2)),
        Activation("r1", "relu"),
        Conv("c2", rng.standard_normal((2, 2, 2, 2)), np.zeros(2)),
        Activation("r2", "relu"),
        MaxPool("p", (2, 2), (2, 2)),
        Flatten("f"),
        Dense("d1", rng.standard_normal((3, 8)), np.zeros(3)),
        Activation("s", "sigmoid"),
        Dense("d2", rng.standard_normal((2, 3)), np.zeros(2)),
        Activation("t", "tanh"),
    )
    return Network(layers, (1, 8, 8))


def test_dcp_bounds_pooling_by_its_constant_and_lipsdp_refuses_it_by_name() -> None:
    network = mixed()
    record = certlip.bound(network, method="dcp", grid=(2, 2), merge="cover")
    assert record.status == Status.OK
    assert record.n_sdps == 5
    assert record.value is not None
    assert oracle.sampled_quotient(network, 3) <= record.value <= value(network, "product")
    refused = certlip.bound(network, method="lipsdp")
    assert refused.status == Status.UNSUPPORTED
    assert refused.value is None
    assert refused.reason.startswith("p: no ")


def test_equal_patches_are_solved_once_and_counted() -> None:
    record = certlip.bound(unpadded(9, 1, 2, 2, 8), method="dcp", grid=(3, 2), merge="sum")
    assert (record.n_sdps, record.n_distinct_sdps) == (6, 1)
    assert record.max_order == 4 * 5 + 3 * 4


def test_a_segment_without_gain_falls_back_to_the_product_and_says_so() -> None:
    network = unpadded(0, 1, 2, 2, 9)
    record = certlip.bound(network, method="dcp", grid=(7, 7), merge="sum")
    assert record.value == value(network, "product")
    assert "layers c0 to r1 use the product of norms" in record.reason


def test_a_program_that_a_limit_leaves_nothing_of_leaves_the_product_and_says_so() -> None:
    network = unpadded(0, 1, 2, 2, 7)
    allowed = {"max_memory_mb": 1.0}
    for method in ("dcp", "lipsdp"):
        record = certlip.bound(network, method=method, **allowed)
        assert record.value == value(network, "product")
        assert "use the product of norms" in record.reason


@limit(max_examples=10)
@given(st.integers(0, 1000), st.permutations(range(5)))
def test_permuting_hidden_neurons_changes_nothing(seed: int, order: list[int]) -> None:
    rng = np.random.default_rng(seed)
    w, v = rng.standard_normal((5, 3)), rng.standard_normal((2, 5))
    nets = [
        Network((Dense("w", a, np.zeros(5)), Activation("r", "relu"), Dense("v", b, np.zeros(2))), (3,))
        for a, b in ((w, v), (w[order], v[:, order]))
    ]
    found = [value(n, "lipsdp") for n in nets]
    assert abs(found[0] / found[1] - 1) <= RTOL


def test_records_of_sdp_methods_say_what_was_solved() -> None:
    record: Record = certlip.bound(unpadded(1, 1, 2, 2, 6), method="lipsdp")
    assert record.max_order == 36 + 25
    assert (record.n_sdps, record.n_distinct_sdps) == (1, 1)
    assert record.solver is not None
    assert record.solver_version is not None
    assert record.margin is not None
    assert record.seconds > 0
