"""Layer constants against dense matrices in rational arithmetic, and the torus against dense Fourier analysis."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from fractions import Fraction

import mpmath
import numpy as np
import oracle
import pytest
import spectrum
from hypothesis import given
from hypothesis import settings as limit
from hypothesis import strategies as st
from random_networks import networks, random_pool

from certlip.base.errors import CertlipError, DataError
from certlip.network import LINEAR, Activation, Conv, Dense, Flatten, MaxPool, Network, Shape
from certlip.proof import banded, norms, torus

RNG = np.random.default_rng(11)


def conv(weight_shape: tuple[int, int, int, int], scale: float = 1.0, **options: object) -> Conv:
    return Conv("c", scale * RNG.standard_normal(weight_shape), np.zeros(weight_shape[0]), **options)  # type: ignore[arg-type]


HARD = {
    "1x1 kernel": (conv((3, 2, 1, 1)), (2, 3, 3)),
    "1-pixel map": (conv((2, 3, 1, 1)), (3, 1, 1)),
    "1-pixel map, padded": (conv((2, 2, 3, 3), padding=(1, 1, 1, 1)), (2, 1, 1)),
    "image smaller than kernel": (conv((1, 2, 5, 5), padding=(2, 2, 2, 2)), (2, 2, 3)),
    "padding beyond the kernel": (conv((1, 1, 2, 2), padding=(4, 4, 4, 4)), (1, 2, 2)),
    "uneven padding": (conv((2, 1, 3, 3), padding=(2, 0, 0, 1)), (1, 3, 4)),
    "stride 2": (conv((2, 2, 3, 3), stride=(2, 2)), (2, 5, 6)),
    "stride 2, padded": (conv((2, 1, 3, 3), stride=(2, 2), padding=(1, 1, 1, 1)), (1, 5, 4)),
    "stride above kernel": (conv((2, 2, 2, 2), stride=(3, 3)), (2, 5, 7)),
    "stride above map": (conv((2, 1, 2, 2), stride=(5, 5)), (1, 3, 3)),
    "uneven stride": (conv((2, 1, 3, 2), stride=(1, 3)), (1, 4, 7)),
    "stride on a torus of odd length": (
        Conv("c", np.array([1.0, 0.0, -1.0]).reshape(1, 1, 1, 3), np.zeros(1), stride=(1, 2)),
        (1, 1, 7),
    ),
    "dilation": (conv((2, 1, 2, 2), dilation=(2, 3)), (1, 4, 5)),
    "dilation, stride, padding": (
        conv((2, 1, 2, 3), dilation=(2, 1), stride=(2, 1), padding=(1, 1, 1, 1)),
        (1, 4, 4),
    ),
    "groups": (conv((4, 2, 2, 2), groups=2), (4, 3, 3)),
    "depthwise": (conv((3, 1, 3, 3), padding=(1, 1, 1, 1), groups=3), (3, 3, 3)),
    "dead channel": (
        Conv("c", np.array([0.0, 1.0])[:, None, None, None] * RNG.standard_normal((2, 2, 2, 2)), np.zeros(2)),
        (2, 3, 3),
    ),
    "tiny": (conv((2, 2, 2, 2), 1e-6), (2, 3, 3)),
    "huge": (conv((2, 2, 2, 2), 1e6), (2, 3, 3)),
    "below the root of the smallest double": (conv((1, 1, 2, 2), 1e-170), (1, 3, 3)),
    "above the root of the largest double": (conv((1, 1, 2, 2), 1e160), (1, 3, 3)),
    "sparse": (Conv("c", np.eye(3).reshape(1, 1, 3, 3), np.zeros(1)), (1, 5, 4)),
    "zero": (Conv("c", np.zeros((2, 1, 2, 2)), np.zeros(2)), (1, 3, 3)),
}


@pytest.mark.parametrize("case", HARD)
def test_certified_norm_of_a_convolution_is_never_below_the_true_one(case: str) -> None:
    layer, shape = HARD[case]
    matrix = oracle.rational(oracle.dense_matrix(layer, shape))
    constant = norms.layer_constant(layer, shape)
    assert oracle.dominates(constant, matrix)
    assert norms.holds(layer, shape, constant)


@pytest.mark.parametrize("case", HARD)
def test_a_constant_below_the_true_norm_never_holds(case: str) -> None:
    layer, shape = HARD[case]
    truth = float(np.linalg.norm(oracle.dense_matrix(layer, shape), 2))
    for relative in (1e-15, 1e-12, 1e-6, 0.1, 1.0):
        claimed = truth * (1 - relative)
        if norms.holds(layer, shape, claimed):
            assert oracle.dominates(claimed, oracle.rational(oracle.dense_matrix(layer, shape)))
            assert relative == 1e-15 or truth == 0
    for nonsense in (-1.0, math.nan, math.inf):
        assert not norms.holds(layer, shape, nonsense)


@pytest.mark.parametrize("case", [case for case in HARD if case != "zero"])
def test_the_constant_of_a_small_convolution_is_its_norm_and_not_that_of_the_torus(case: str) -> None:
    layer, shape = HARD[case]
    truth = float(np.linalg.norm(oracle.dense_matrix(layer, shape), 2))
    assert norms.layer_constant(layer, shape) <= truth * (1 + 1e-9) <= norms.torus_constant(layer, shape) * (1 + 2e-9)


def test_a_convolution_whose_matrix_is_large_is_bounded_on_the_torus() -> None:
    layer, shape = conv((4, 4, 3, 3), padding=(1, 1, 1, 1)), (4, 160, 160)
    assert not norms._is_small(layer, shape)
    assert not banded.is_affordable(layer, shape)
    constant = norms.layer_constant(layer, shape)
    assert constant == norms.torus_constant(layer, shape)
    assert norms.holds(layer, shape, constant)
    assert not norms.holds(layer, shape, constant * (1 - 1e-6))


@limit(max_examples=60)
@given(networks())
def test_certified_norms_of_random_layers_are_never_below_the_true_ones(network: Network) -> None:
    for layer, shape in zip(network.layers, network.shapes, strict=False):
        if isinstance(layer, LINEAR):
            constant = norms.layer_constant(layer, shape)
            assert oracle.dominates(constant, oracle.rational(oracle.dense_matrix(layer, shape)))
            assert norms.holds(layer, shape, constant)


def test_the_circular_norm_at_image_size_would_be_too_small_for_zero_padding() -> None:
    layer = Conv("c", np.array([-1.0, 1.0, -1.0]).reshape(1, 1, 1, 3), np.zeros(1), padding=(0, 0, 1, 1))
    constant = norms.layer_constant(layer, (1, 1, 3))
    assert constant >= 2.4142
    assert oracle.dominates(constant, oracle.rational(oracle.dense_matrix(layer, (1, 1, 3))))


@pytest.mark.parametrize("n", [5, 8])
def test_an_unpadded_convolution_on_a_large_image_is_bounded_closely(n: int) -> None:
    """The circular norm on the same image: a few percent above, never the sum of all taps."""
    layer = conv((3, 2, 3, 3))
    truth = np.linalg.norm(oracle.dense_matrix(layer, (2, n, n)), 2)
    assert truth <= norms.layer_constant(layer, (2, n, n)) <= 1.5 * truth


@limit(max_examples=40)
@given(st.integers(0, 10**6))
def test_frequency_matrices_are_the_circular_operator(seed: int) -> None:
    rng = np.random.default_rng(seed)
    stride, dilation, groups = (tuple(rng.integers(1, 4, 2).tolist()), tuple(rng.integers(1, 3, 2).tolist()), 2)
    shape = (2, *rng.integers(3, 6, 2).tolist())
    layer = Conv("c", rng.standard_normal((2, 1, *rng.integers(1, 4, 2).tolist())), np.zeros(2), stride, groups=groups)
    layer = replace(layer, dilation=dilation)
    try:
        layer.output_shape(shape)
    except DataError:
        return
    side = torus.size(layer, shape)
    matrices, error = spectrum.matrices(layer, side), torus.rounding_error(layer)
    largest = np.linalg.norm(matrices, 2, axis=(-2, -1)).max()
    truth = np.linalg.norm(circular_matrix(layer, side), 2)
    assert abs(largest - truth) <= error + 1e-12 * truth


def circular_matrix(layer: Conv, side: tuple[int, int]) -> np.ndarray:
    """The strided convolution with indices that wrap around, one entry at a time."""
    c_out, group_in, k_h, k_w = layer.weight.shape
    rows, columns = side[0] // layer.stride[0], side[1] // layer.stride[1]
    matrix = np.zeros((c_out, rows, columns, group_in * layer.groups, *side))
    for o, i, j, c, u, v in itertools.product(*map(range, (c_out, rows, columns, group_in, k_h, k_w))):
        y = (i * layer.stride[0] + u * layer.dilation[0]) % side[0]
        x = (j * layer.stride[1] + v * layer.dilation[1]) % side[1]
        matrix[o, i, j, o // (c_out // layer.groups) * group_in + c, y, x] += layer.weight[o, c, u, v]
    return matrix.reshape(c_out * rows * columns, -1)


@limit(max_examples=100)
@given(st.integers(0, 10**6))
def test_no_norm_is_proved_that_is_some_ulps_below_the_true_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal(rng.integers(1, 5, 2))
    gram = norms._gram(matrix[None].astype(np.complex128))
    truth = float(np.linalg.norm(matrix, 2))
    assert norms._dominates(truth * (1 + 1e-12), gram)
    for n_ulps in range(-6, 7):
        sigma = truth * (1 + n_ulps * 2.0**-52)
        if norms._dominates(sigma, gram):
            assert oracle.dominates(sigma, oracle.rational(matrix))


def test_groups_are_bounded_by_their_maximum_not_their_product() -> None:
    layer = conv((4, 1, 1, 1), groups=4)
    largest = float(np.abs(layer.weight).max())
    assert largest <= norms.layer_constant(layer, (4, 3, 3)) <= largest * (1 + 1e-9)


@pytest.mark.parametrize("seed", range(30))
def test_max_pooling_is_never_bounded_below_the_windows_that_share_a_pixel(seed: int) -> None:
    shape: Shape = (1, 5, 6)
    pool = random_pool(seed, shape)
    shared = windows_of_each_pixel(pool, shape).max()
    assert norms.layer_constant(pool, shape) >= math.sqrt(shared)
    quotient = oracle.sampled_quotient(Network((pool,), shape), seed, n=30)
    assert norms.layer_constant(pool, shape) >= quotient * (1 - 1e-9)


def windows_of_each_pixel(pool: MaxPool, shape: Shape) -> np.ndarray:
    counts = np.zeros(shape[1:], dtype=int)
    for i, j, u, v in itertools.product(*map(range, pool.output_shape(shape)[1:]), *map(range, pool.kernel)):
        y, x = i * pool.stride[0] + u - pool.padding[0], j * pool.stride[1] + v - pool.padding[1]
        if 0 <= y < shape[1] and 0 <= x < shape[2]:
            counts[y, x] += 1
    return counts


def test_overlapping_max_pooling_is_not_counted_as_one() -> None:
    assert norms.layer_constant(MaxPool("p", (2, 2), (1, 1)), (1, 4, 4)) >= 2
    assert norms.layer_constant(MaxPool("p", (1, 2), (1, 1)), (1, 1, 4)) ** 2 >= 2
    assert norms.layer_constant(MaxPool("p", (2, 2), (2, 2)), (1, 4, 4)) == 1
    # one window only: nothing overlaps, whatever the stride
    assert norms.layer_constant(MaxPool("p", (4, 4), (1, 1)), (1, 4, 4)) == 1


@pytest.mark.parametrize(
    ("layer", "constant"),
    [
        (Activation("a", "relu"), 1.0),
        (Activation("a", "leaky_relu", 0.3), 1.0),
        (Activation("a", "leaky_relu", -3.0), 3.0),
        (Activation("a", "sigmoid"), 0.25),
        (Activation("a", "abs"), 1.0),
        (Flatten("f"), 1.0),
    ],
)
def test_other_layers_have_their_steepest_slope(layer: Activation | Flatten, constant: float) -> None:
    assert norms.layer_constant(layer, (2, 3, 3)) == constant
    assert norms.holds(layer, (2, 3, 3), constant)
    assert not norms.holds(layer, (2, 3, 3), constant * 0.999)


def test_a_zero_dense_layer_has_the_constant_zero() -> None:
    layer = Dense("d", np.zeros((2, 3)), np.zeros(2))
    assert norms.layer_constant(layer, (3,)) == 0.0
    assert norms.holds(layer, (3,), 0.0)


@pytest.mark.parametrize("power", [-1000, -500, -301, -40, 3, 60, 511, 1000])
def test_scaling_by_a_power_of_two_scales_the_constant_and_what_holds_exactly(power: int) -> None:
    dense = Dense("d", RNG.standard_normal((4, 7)), np.zeros(4))
    for layer, shape in (
        (conv((2, 2, 3, 3)), (2, 5, 5)),
        (conv((2, 2, 2, 2), padding=(1, 0, 1, 1)), (2, 40, 40)),
        (dense, (7,)),
    ):
        scaled = replace(layer, weight=np.ldexp(layer.weight, power))
        constant = norms.layer_constant(layer, shape)
        assert norms.layer_constant(scaled, shape) == math.ldexp(constant, power)
        for relative in (-1e-3, -1e-9, 1e-12, 1e-9, 1e-3, 1e3):
            claim = constant * (1 + relative)
            assert norms.holds(scaled, shape, math.ldexp(claim, power)) == norms.holds(layer, shape, claim)
        if isinstance(layer, Conv):
            assert norms.torus_constant(scaled, shape) == math.ldexp(norms.torus_constant(layer, shape), power)


@pytest.mark.parametrize("scales", [(1e300, 1e-300), (1e305, 2.0**-1074), (1.0, 2.0**-1074), (2.0**-1074, 2.0**-1070)])
def test_weights_too_far_apart_to_be_scaled_together_are_bounded_all_the_same(scales: tuple[float, float]) -> None:
    weight = np.array([[scales[0], scales[1]], [3 * scales[1], 0.7 * scales[0]]])
    for layer, shape in (
        (Dense("d", weight, np.zeros(2)), (2,)),
        (Conv("c", weight.reshape(2, 1, 1, 2), np.zeros(2)), (1, 1, 3)),
    ):
        matrix = oracle.rational(oracle.dense_matrix(layer, shape))
        constant = norms.layer_constant(layer, shape)
        assert oracle.dominates(constant, matrix)
        assert norms.holds(layer, shape, constant)
        for claim in (constant, constant * (1 - 1e-12), math.nextafter(constant, 0), scales[0], 0.99 * scales[0]):
            assert not norms.holds(layer, shape, claim) or oracle.dominates(claim, matrix)


@pytest.mark.parametrize("power", [-539, -538])
def test_what_underflows_in_a_gram_matrix_is_not_proved_to_be_below_anything(power: int) -> None:
    """Products of the entries are below half the smallest double, and the norm is 256 times an entry."""
    entry = 2.0**power
    gram = norms._gram(np.full((1, 1, 2**16), entry, dtype=complex))
    assert not gram[0].any()
    for factor in (2.0**6, 2.0**7, 255.0):
        assert not norms._dominates(factor * entry, gram)


def test_what_underflows_in_a_factorisation_is_not_proved_to_be_below_anything() -> None:
    """All products of entries of the factor are zero, so Cholesky goes through whatever the norm, 64 times an entry."""
    gram = np.full((1, 64, 64), 2.0**-1074, dtype=complex)
    for sigma in (2.0**-536, 2.0**-535, math.nextafter(2.0**-534, 0.0)):
        assert not norms._dominates(sigma, (gram, 0.0))


def test_underflow_in_a_spectrum_is_covered() -> None:
    layer, shape = HARD["stride 2, padded"]
    tiny = replace(layer, weight=np.ldexp(layer.weight, -1072))
    check_spectrum(tiny, shape)


def test_an_unknown_layer_is_an_error_for_the_user() -> None:
    with pytest.raises(CertlipError, match="a: no bound"):
        norms.layer_constant(Activation("a", "swiglu"), (3,))


def exact_inner_product(a: np.ndarray, b: np.ndarray) -> tuple[Fraction, Fraction]:
    """Real and imaginary part of sum a conj(b)."""
    real = sum(
        Fraction(x) * Fraction(y) for x, y in [*zip(a.real, b.real, strict=True), *zip(a.imag, b.imag, strict=True)]
    )
    imaginary = sum(
        Fraction(x) * Fraction(y) for x, y in [*zip(a.imag, b.real, strict=True), *zip(-a.real, b.imag, strict=True)]
    )
    return Fraction(real), Fraction(imaginary)


@pytest.mark.parametrize(("m", "n"), [(1, 1), (3, 7), (7, 3), (4, 40)])
def test_what_is_added_for_forming_a_gram_matrix_covers_its_rounding(m: int, n: int) -> None:
    matrices = RNG.standard_normal((3, m, n)) + 1j * RNG.standard_normal((3, m, n))
    grams, radius = norms._gram(matrices)
    for matrix, gram in zip(matrices, grams, strict=True):
        rows = matrix if m <= n else matrix.conj().T
        distance = 0.0
        for (i, a), (j, b) in itertools.product(enumerate(rows), repeat=2):
            real, imaginary = exact_inner_product(a, b)
            distance += float((real - Fraction(gram[i, j].real)) ** 2 + (imaginary - Fraction(gram[i, j].imag)) ** 2)
        assert 0 < math.sqrt(distance) <= radius


def test_a_torus_is_no_proof_a_rounding_below_the_norm() -> None:
    """Of v v' the norm is |v|^2, and short entries have exact products; Cholesky alone may go through below it."""
    rng, n, alone = np.random.default_rng(0), 30, 0
    for _ in range(500):
        v = np.round(rng.standard_normal(n) * 2**24) / 2**24
        gram, norm = np.outer(v, v).astype(complex)[None], sum(Fraction(x) ** 2 for x in v)
        sigma = math.sqrt(norm)
        while Fraction(sigma * sigma) >= norm:
            sigma = math.nextafter(sigma, 0.0)
        assert not norms._dominates(sigma, (gram, 0.0))
        try:
            np.linalg.cholesky(sigma * sigma * np.eye(n) - gram)
            alone += 1
        except np.linalg.LinAlgError:
            pass
    assert alone > 0


@pytest.mark.parametrize("case", ["stride 2", "dilation, stride, padding", "groups", "uneven padding"])
def test_what_is_added_for_phases_covers_the_distance_to_the_exact_spectrum(case: str) -> None:
    check_spectrum(*HARD[case])


def check_spectrum(layer: Conv, shape: Shape) -> None:
    side = torus.size(layer, shape)
    found, radius = spectrum.matrices(layer, side), torus.rounding_error(layer)
    exact = [
        exact_frequency_matrix(layer, side, group, frequency)
        for frequency in frequencies(layer, side)
        for group in range(layer.groups)
    ]
    for matrix, entries in zip(found, exact, strict=True):
        distance = mpmath.sqrt(
            sum(abs(mpmath.mpc(complex(x)) - y) ** 2 for x, y in zip(matrix.ravel(), entries, strict=True))
        )
        assert 0 < distance <= radius


def frequencies(layer: Conv, side: tuple[int, int]) -> list[tuple[int, int]]:
    rows, columns = torus.frequencies((side[0] // layer.stride[0], side[1] // layer.stride[1]))
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def exact_frequency_matrix(
    layer: Conv, side: tuple[int, int], group: int, frequency: tuple[int, int]
) -> list[mpmath.mpc]:
    """Entries (c_out / groups, aliases, c_in / groups) of the definition, to 50 digits."""
    c_out, c_in, k_h, k_w = layer.weight.shape
    (s_h, s_w), (d_h, d_w) = layer.stride, layer.dilation
    entries = []
    with mpmath.workdps(50):
        for o in range(group * (c_out // layer.groups), (group + 1) * (c_out // layer.groups)):
            for a, b, c in itertools.product(range(s_h), range(s_w), range(c_in)):
                r, q = frequency[0] + a * (side[0] // s_h), frequency[1] + b * (side[1] // s_w)
                total = sum(
                    mpmath.mpf(float(layer.weight[o, c, u, v]))
                    * mpmath.expjpi(-2 * (mpmath.mpf(r * u * d_h) / side[0] + mpmath.mpf(q * v * d_w) / side[1]))
                    for u, v in itertools.product(range(k_h), range(k_w))
                )
                entries.append(total / mpmath.sqrt(s_h * s_w))
    return entries
