"""Powers of two: taken out of the layers exactly, put back into the bound exactly, and proved by the certificate."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from scipy import linalg

import certlip
from certlip.base.errors import DataError
from certlip.base.files import read_npz, write_npz
from certlip.base.record import Kind, Status
from certlip.methods import Bound, MethodInfo, load
from certlip.network import LINEAR, Activation, Conv, Dense, Network
from certlip.network.scaling import divide, multiply_back, norm_exponent, scale_network
from certlip.proof import certificate as certificates
from certlip.proof.certificate import UpperCertificate
from certlip.pytorch.jacobian import Rescaled, linearise, spectral_norms

INFO = MethodInfo("What a method of one's own is given", Kind.LOWER, "none")
SEEN: list[Network] = []


def bound(network: Network) -> Bound:
    """A lower bound of increments, which is none of the network."""
    SEEN.append(network)
    return load("lower").bound(network, n_points=4, n_starts=1, n_steps=0)  # type: ignore[no-any-return]


def dense(*weights: Any, kind: str = "relu") -> Network:
    """Dense layers with activations between, and biases."""
    layers: list[Any] = []
    for i, weight in enumerate(weights):
        matrix = np.array(weight, dtype=float)
        layers += [Dense(f"d{i}", matrix, np.linspace(-1, 1, len(matrix))), Activation(f"a{i}", kind)]
    return Network(tuple(layers[:-1]), (layers[0].weight.shape[1],))


def network() -> Network:
    rng = np.random.default_rng(3)
    return dense(rng.standard_normal((4, 3)), rng.standard_normal((4, 4)), rng.standard_normal((2, 4)))


def scaled(net: Network, *factors: float) -> Network:
    """The network with each linear layer's weight times a factor."""
    given = iter(factors)
    layers = [
        replace(layer, weight=layer.weight * next(given)) if isinstance(layer, LINEAR) else layer
        for layer in net.layers
    ]
    return Network(tuple(layers), net.input_shape)


LAYERS = {
    "dense": Dense("l", np.random.default_rng(0).standard_normal((40, 30)), np.zeros(40)),
    "conv": Conv("l", np.random.default_rng(1).standard_normal((4, 3, 5, 5)), np.zeros(4), padding=(2, 2, 2, 2)),
    "depthwise": Conv("l", np.random.default_rng(2).standard_normal((16, 1, 3, 3)), np.zeros(16), groups=16),
    "orthogonal": Dense("l", linalg.qr(np.random.default_rng(4).standard_normal((50, 50)))[0], np.zeros(50)),
    "one": Dense("l", np.array([[3.0]]), np.zeros(1)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_scaled_layer_has_a_norm_near_one(name: str) -> None:
    layer = LAYERS[name]
    shape = (30,) if name == "dense" else (50,) if name == "orthogonal" else (1,) if name == "one" else ()
    shape = shape or (layer.weight.shape[1] * layer.groups, 9, 9)  # type: ignore[union-attr]
    norm = np.linalg.norm(layer.matrix(shape).toarray(), 2)
    assert 1 / 4 < norm / 2.0 ** norm_exponent(layer) < 2


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("k", [-1000, -537, -1, 1, 64, 1000])
def test_the_exponent_moves_with_the_weights_by_exactly_as_much(name: str, k: int) -> None:
    layer = LAYERS[name]
    assert norm_exponent(replace(layer, weight=np.ldexp(layer.weight, k))) == norm_exponent(layer) + k


@pytest.mark.parametrize(
    "weight", [[1.0, 5e-324], [1e300, 1e-300], [5e-324, 0.0], [1.7e308, 1.0], [2.0**-1030 * 3, 1e200], [0.0, 0.0]]
)
def test_no_weight_is_rounded_however_far_apart_they_are(weight: list[float]) -> None:
    found = scale_network(dense([weight]))
    for before, after in zip(weight, found.network.layers[0].weight[0], strict=True):  # type: ignore[union-attr]
        assert Fraction(before) == Fraction(after) * Fraction(2) ** found.exponents[0]
    for k in (-3, 5):
        if all(math.isfinite(w * 2.0**k) and Fraction(w * 2.0**k) == Fraction(w) * Fraction(2) ** k for w in weight):
            assert scale_network(dense([[w * 2.0**k for w in weight]])).exponents[0] - found.exponents[0] in (0, k)


@pytest.mark.parametrize("value", [1.0, 1.2345, 1e-300, 1.7e308])
@pytest.mark.parametrize("exponent", [-5000, -1074, -1060, -30, 0, 7, 1000, 10**30, -(10**30)])
def test_a_value_that_is_multiplied_back_is_never_below(value: float, exponent: int) -> None:
    back = multiply_back(value, (exponent - 2, 2))
    if math.isinf(back):
        assert math.frexp(value)[1] + exponent > 1024
        return
    assert exponent < -5000 or Fraction(back) >= Fraction(value) * Fraction(2) ** exponent
    assert back > 0
    if exponent + math.frexp(value)[1] > -1000:
        assert back == math.ldexp(value, exponent)


@pytest.mark.parametrize("method", ["product", "lipsdp", "eclipse_fast"])
def test_a_bound_beyond_the_largest_double_is_a_row_that_says_so(method: str) -> None:
    record = certlip.bound(scaled(network(), 1e200, 1.0, 1e200), method=method)
    assert record.status is Status.NOT_CERTIFIED
    assert "larger than the largest double" in record.reason


@pytest.mark.parametrize("method", ["product", "lipsdp", "eclipse_fast"])
def test_a_bound_below_the_smallest_double_is_rounded_up(method: str) -> None:
    record = certlip.bound(scaled(network(), 1e-200, 1.0, 1e-200), method=method)
    assert record.value == 5e-324
    assert certlip.verify(record.certificate)


@pytest.mark.parametrize("method", ["product", "gram", "liplt", "eclipse", "eclipse_fast", "lipsdp", "lipsdp_layer"])
@pytest.mark.parametrize("factors", [(1e200, 1e-160, 1e-40), (1e-300, 1e300, 1.0), (1e100, 1e100, 1e-250)])
def test_extremes_of_several_layers_cancel(method: str, factors: tuple[float, float, float]) -> None:
    record = certlip.bound(scaled(network(), *factors), method=method)
    assert record.status is Status.OK
    assert record.value is not None
    # factors that are no powers of two round the weights: a few parts in 1e16 of the norm
    assert record.value >= math.prod(factors) * oracle.attained_norm(network()) * (1 - 1e-13)
    verification = certlip.verify(record.certificate)
    assert verification, verification.reason


@pytest.mark.parametrize(
    "method", ["product", "gram", "liplt", "eclipse", "eclipse_fast", "lipsdp", "lipsdp_layer", "dcp"]
)
@pytest.mark.parametrize("low", [1e-300, 1e-160, 1e-90])
def test_a_layer_of_weights_far_apart_is_bounded_or_refused_in_words(method: str, low: float) -> None:
    net = dense([[1e100, low], [low, 1.0]], [[1.0, -1e120], [low, low]])
    record = certlip.bound(net, method=method)
    if record.status is not Status.OK:
        assert record.reason
        return
    assert record.value is not None
    assert record.value >= 1e120 * (1 - 1e-12)
    assert certlip.verify(record.certificate)


def test_multiples_by_powers_of_two_share_their_solved_programs(tmp_path: Path) -> None:
    certlip.bound(network(), method="lipsdp", cache=tmp_path)
    certlip.bound(scaled(network(), 2.0**300, 2.0**-500, 8.0), method="lipsdp", cache=tmp_path)
    assert len(list(tmp_path.rglob("*.npz"))) == 1


def test_a_method_is_given_increments_unless_it_says_that_it_reads_biases() -> None:
    with pytest.raises(TypeError, match="reads_biases"):
        certlip.bound(network(), method="mine", module=__name__)
    assert not any(layer.bias.any() for layer in SEEN[-1].layers if isinstance(layer, LINEAR))


@pytest.fixture
def proved() -> UpperCertificate:
    certificate = certlip.bound(scaled(network(), 2.0**40, 1.0, 2.0**-3), method="lipsdp").certificate
    assert isinstance(certificate, UpperCertificate)
    return certificate


def test_exponents_are_kept_in_the_file(proved: UpperCertificate, tmp_path: Path) -> None:
    proved.save(tmp_path / "c.npz")
    loaded = certificates.load(tmp_path / "c.npz")
    assert isinstance(loaded, UpperCertificate)
    assert loaded.exponents == proved.exponents
    assert certlip.verify(loaded).value == proved.value


def test_a_file_without_exponents_is_about_the_layers_as_they_are(tmp_path: Path) -> None:
    plain = load("product").bound(network()).certificate
    plain.save(tmp_path / "c.npz")
    header, arrays = read_npz(tmp_path / "c.npz")
    del header["exponents"]
    write_npz(tmp_path / "c.npz", header, arrays)
    verification = certlip.verify(tmp_path / "c.npz")
    assert verification
    assert verification.value == plain.value


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: (e[0] - 1, *e[1:]), "not proved"),
        (lambda e: (e[0], e[1] - 1, *e[2:]), "only layers with weights"),
        (lambda e: e[:-1], "4 exponents for 5 layers"),
        (lambda e: (e[0] - 10**6, *e[1:]), "are no doubles"),
        (lambda e: (e[0] + 10**6, *e[1:]), "are no doubles"),
        (lambda e: (-(10**400), *e[1:]), "are no doubles"),
    ],
    ids=["smaller", "of an activation", "too few", "much smaller", "much larger", "no double"],
)
def test_forged_exponents_are_refused(proved: UpperCertificate, change: Any, words: str) -> None:
    verification = certlip.verify(replace(proved, exponents=change(proved.exponents)))
    assert not verification
    assert words in verification.reason


def test_exponents_that_are_no_integers_are_no_certificate(proved: UpperCertificate, tmp_path: Path) -> None:
    proved.save(tmp_path / "c.npz")
    header, arrays = read_npz(tmp_path / "c.npz")
    for forged in ([0.5] * 5, ["1"] * 5, None, 3):
        write_npz(tmp_path / "c.npz", {**header, "exponents": forged}, arrays)
        with pytest.raises(DataError, match="not a certlip certificate"):
            certificates.load(tmp_path / "c.npz")


@pytest.mark.parametrize("kind", ["relu", "abs"])
@pytest.mark.parametrize("k", [-900, 0, 900])
def test_the_search_sees_the_same_network_in_any_units(kind: str, k: int) -> None:
    import torch

    rng = np.random.default_rng(5)
    weights = [rng.standard_normal((4, 3)), rng.standard_normal((4, 4)), rng.standard_normal((2, 4))]
    weights = [np.ldexp(w, shift) for w, shift in zip(weights, (k, 0, -k // 2), strict=True)]
    net = dense(*weights, kind=kind)
    layers = [
        replace(layer, bias=np.ldexp(layer.bias, shift)) if isinstance(layer, Dense) else layer
        for layer, shift in zip(net.layers, (k, 0, k, 0, k - k // 2), strict=True)
    ]
    rescaled = Rescaled.of(Network(tuple(layers), (3,)))
    points = torch.from_numpy(rng.standard_normal((5, 3)))
    norms, directions = spectral_norms(linearise(rescaled, points), points, n_iter=50)
    assert rescaled.exponent == Rescaled.of(dense(*(np.ldexp(w, 0) for w in weights))).exponent
    assert (norms > 0).any()
    for x, v, norm in zip(points.numpy(), directions.numpy(), norms.numpy(), strict=True):
        for layer in layers:
            if isinstance(layer, Dense):
                x, v = layer.weight @ x + layer.bias, layer.weight @ v
            else:
                v = np.where(x > 0, v, -v if kind == "abs" else 0.0)
                x = np.abs(x) if kind == "abs" else np.maximum(x, 0)
        peak = np.abs(v).max() or 1.0
        attained = np.linalg.norm(v / peak) * np.ldexp(peak, -rescaled.exponent)
        assert norm == pytest.approx(attained, rel=1e-12)


def test_divide_refuses_what_it_would_round() -> None:
    with pytest.raises(DataError, match="d0: its weights divided by 2"):
        divide(dense([[1.0 + 2.0**-52]]), (1030,))
