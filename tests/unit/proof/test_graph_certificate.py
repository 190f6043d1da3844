"""Certificates of networks that are no chains: the graph computes what the module does, and its value is proved."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from changed_files import after_each_change
from torch_modules import Graph as Module
from torch_modules import seeded

import certlip
from certlip import collect, zoo
from certlip.base.errors import DataError
from certlip.base.files import read_npz, write_npz
from certlip.base.record import Kind, Record
from certlip.completeness import prove
from certlip.network import Activation, Array, Concat, Conv, Dense, Flatten, Layer, Network, Sum
from certlip.proof import certificate as certificates
from certlip.proof.certificate import SegmentProof, UpperCertificate, constants_proof
from certlip.proof.merge import along
from certlip.pytorch.export import export_network
from certlip.pytorch.weights import save_weights
from certlip.solving.evaluate import save_result
from certlip.untrained import build

SHAPE = (1, 4, 4)


@cache
def residual() -> torch.nn.Module:
    return zoo.from_factory("residual_network:make", 3).double().eval()


@cache
def record() -> Record:
    return certlip.bound(residual(), SHAPE, "autolip", name="residual", certified=True)


def proof() -> UpperCertificate:
    found: UpperCertificate = record().certificate
    return found


def with_constants(constants: tuple[float, ...]) -> UpperCertificate:
    (segment,) = proof().segments
    return replace(proof(), segments=(replace(segment, constants=constants),))


def constants() -> tuple[float, ...]:
    return proof().segments[0].constants


def weight(module: Any) -> Array:
    numbers: Array = module.weight.detach().numpy()
    return numbers


def chain(first: Array, last: Array) -> Network:
    """Last relu(first x), of which all constants can be found by enumeration."""
    layers = (Dense("f", first, np.zeros(len(first))), Activation("r", "relu"), Dense("l", last, np.zeros(len(last))))
    return Network(layers, (first.shape[1],))


def residual_chain(sign: float, skip: float) -> Any:
    """skip x + sign B relu(A x), its x = relu(x) - relu(-x)."""
    eye = np.eye(4)
    return lambda a, b: chain(np.vstack([a, eye, -eye]), np.hstack([sign * b, skip * eye, -skip * eye]))


PIECEWISE_LINEAR = {
    "residual": (lambda m, x: x + m.b(torch.relu(m.a(x))), residual_chain(1, 1)),
    "difference": (lambda m, x: m.b(torch.relu(m.a(x))) - 0.3 * x, residual_chain(1, -0.3)),
    "concatenation": (
        lambda m, x: torch.cat([torch.relu(m.a(x)), -2.0 * torch.relu(m.b(x))], dim=1),
        lambda a, b: chain(np.vstack([a, b]), np.diag([1.0] * 4 + [-2.0] * 4)),
    ),
}


METHODS: dict[str, dict[str, Any]] = {
    **{name: {} for name, info in certlip.methods().items() if info.kind is Kind.CERTIFIED and name != "torus"},
    "seqlip": {"mode": "exact"},
    "lower": {"n_points": 16, "n_starts": 2, "n_steps": 10},
}


@cache
def piecewise_linear(case: str, seed: int) -> tuple[torch.nn.Module, Network]:
    """A module without biases, and the same function as a chain."""
    function, as_chain = PIECEWISE_LINEAR[case]
    module = seeded(Module(function), seed)
    torch.nn.init.zeros_(module.a.bias)
    torch.nn.init.zeros_(module.b.bias)
    same = as_chain(weight(module.a), weight(module.b))
    x = np.random.default_rng(seed).standard_normal((1, 4))
    np.testing.assert_allclose(oracle.forward(same, x[0]), module(torch.tensor(x)).detach().numpy()[0], rtol=1e-12)
    return module, same


@cache
def truth(case: str) -> float:
    return oracle.attained_norm(piecewise_linear(case, 0)[1])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", PIECEWISE_LINEAR)
def test_certified_value_of_a_graph_is_never_below_the_true_constant(case: str, seed: int) -> None:
    module, same = piecewise_linear(case, seed)
    found = certlip.bound(module, (4,), "autolip", certified=True)
    assert found.kind is Kind.CERTIFIED
    assert oracle.is_at_least(found.value, same)
    assert certlip.verify(found.certificate)


@pytest.mark.parametrize("case", PIECEWISE_LINEAR)
@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_proves_of_a_graph_is_on_the_right_side_of_the_truth(
    method: str, case: str, tmp_path: Path
) -> None:
    module, _ = piecewise_linear(case, 0)
    found = certlip.bound(module, (4,), method, **METHODS[method])
    assert found.value is not None, found.reason
    if method == "lower":
        assert 0 < found.value <= truth(case) * (1 + 1e-12)
    else:
        assert found.kind is Kind.CERTIFIED
        assert found.value >= truth(case) * (1 - 1e-12)
    assert found.weights_sha256 == export_network(module, (4,)).sha256
    found.certificate.save(tmp_path / "c.npz")
    assert certlip.verify(tmp_path / "c.npz").value == found.value


def test_a_partition_of_a_graph_is_never_worse_than_the_product_along_it() -> None:
    torch.manual_seed(0)
    convolutions = torch.nn.Conv2d(3, 6, 3, padding=1), torch.nn.Conv2d(6, 3, 3, padding=1)
    module = Module(lambda m, x: x).double()
    module.a, module.b = (c.double() for c in convolutions)
    module.function = lambda m, x: torch.relu(m.b(torch.relu(m.a(x))) + x)
    values = [certlip.bound(module, (3, 8, 8), method).value for method in ("dcp", "product")]
    assert values[0] is not None
    assert values[0] <= values[1]


def test_a_graph_computes_what_its_module_does() -> None:
    inputs = np.random.default_rng(0).standard_normal((3, *SHAPE))
    network = export_network(residual(), SHAPE)
    expected = residual()(torch.tensor(inputs)).detach().numpy()
    np.testing.assert_allclose(network.forward(inputs), expected, rtol=1e-12)
    assert {type(layer) for layer in network.layers} == {Conv, Activation, Sum, Concat, Flatten, Dense}
    assert not network.is_chain
    assert network.shapes[-1] == (2,)


@pytest.mark.parametrize("options", [{"n_iter": 300}, {"certified": True}])
def test_a_graph_and_its_module_have_the_same_constants(options: dict[str, Any]) -> None:
    network = export_network(residual(), SHAPE)
    values = [certlip.bound(model, SHAPE, "autolip", **options).value for model in (residual(), network)]
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_a_certificate_of_a_graph_holds_in_memory_and_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    proof().save(path)
    loaded = certificates.load(path)
    assert loaded.network.sha256 == record().weights_sha256
    inputs = np.random.default_rng(1).standard_normal((2, *SHAPE))
    assert np.array_equal(*(found.network.forward(inputs) for found in (loaded, proof())))
    for subject in (proof(), loaded, path):
        verification = certlip.verify(subject)
        assert verification.ok, verification.reason
        assert verification.value == record().value


def test_any_number_that_is_changed_in_a_file_is_refused_or_leaves_a_true_claim(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    proof().save(path)
    n_refused, proved = after_each_change(path)
    # norms are proved with a little room
    assert all(value >= proof().value * (1 - 1e-8) for value in proved)
    assert n_refused > 50


@pytest.mark.parametrize("factor", [0.999, 0.0, -1.0, np.nan, np.inf])
def test_a_constant_of_a_layer_that_is_not_proved_is_rejected_by_name(factor: float) -> None:
    for k, (layer, constant) in enumerate(zip(proof().network.layers, constants(), strict=True)):
        verification = certlip.verify(with_constants((*constants()[:k], constant * factor, *constants()[k + 1 :])))
        assert not verification
        assert f": {layer.name}: the constant" in verification.reason


def test_constants_that_do_not_belong_to_layers_are_rejected() -> None:
    for wrong in (constants()[:-1], (*constants(), 1.0)):
        assert "there is not one constant a layer" in certlip.verify(with_constants(wrong)).reason


def test_a_claim_below_what_the_graph_makes_of_the_constants_is_rejected() -> None:
    (segment,) = proof().segments
    lower = replace(segment, constant=segment.constant * (1 - 1e-12))
    assert "below the product" in certlip.verify(replace(proof(), segments=(lower,))).reason


def test_branches_that_are_divided_by_different_powers_of_two_prove_nothing() -> None:
    """8 x + 1000 x divided by 8 is not x + 1000 x."""
    one, thousand = (Dense(f"{w:g}", np.array([[w]]), np.zeros(1)) for w in (1.0, 1000.0))
    network = Network((one, thousand, sum_of((ONE, ONE))), (1,), ((0,), (0,), (1, 2)))
    forged = UpperCertificate(network, (constants_proof(0, network, (8.1, 1001.0, 1.0)),), (-3, 0, 0))
    assert forged.value < 1001
    assert "only the layers of a chain" in certlip.verify(forged).reason


def pair(last: Layer, sources: tuple[int, ...]) -> Network:
    """Two layers of the same input, 3 and 2 wide, and a layer that joins them."""
    wide = [Dense(f"d{n}", np.ones((n, 4)), np.zeros(n)) for n in (3, 2)]
    return Network((*wide, last), (4,), ((0,), (0,), sources))


ONE = np.array(1.0)


def sum_of(factors: tuple[Array, ...], offset: float = 0.0) -> Sum:
    return Sum("last", factors, np.array(offset))


THREE_WIDE = Dense("last", np.ones((1, 3)), np.zeros(1))


@pytest.mark.parametrize(
    ("layer", "sources"),
    [
        (sum_of((ONE, ONE)), (1, 2)),
        (sum_of((ONE,)), (1, 1)),
        (sum_of((ONE,), np.nan), (1,)),
        (sum_of((ONE * np.inf,)), (1,)),
        (sum_of((np.ones(2),)), (1,)),
        (sum_of((np.ones(0),)), (1,)),
        (sum_of((np.ones((2, 3)),)), (1,)),
        (sum_of(()), ()),
        (Concat("last", 1), (1, 1)),
        (Concat("last", -1), (1, 1)),
        (Concat("last", 0), (1, 3)),
        (Concat("last", 0), (1, -1)),
        (THREE_WIDE, (2,)),
        (THREE_WIDE, (1, 1)),
        (THREE_WIDE, ()),
    ],
)
def test_layers_that_do_not_fit_their_sources_are_refused_by_name(layer: Layer, sources: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="last: "):
        pair(layer, sources)


def test_all_sources_and_factors_count() -> None:
    assert along(pair(Concat("last", 0), (1, 2)), (3.0, 2.0, 1.0)) >= 5.0
    assert 7.5 <= along(pair(THREE_WIDE, (1,)), (3.0, 2.0, 2.5)) <= 7.5 * (1 + 1e-12)
    twice = sum_of((np.array(-2.0), np.array([0.5, 0.0, -4.0])), 1.0)
    assert 18.0 <= along(pair(twice, (1, 1)), (3.0, 2.0, 1.0)) <= 18.0 * (1 + 1e-12)


def test_other_wiring_factors_and_numbers_have_another_hash() -> None:
    graphs = [
        pair(Concat("last", 0), (1, 2)),
        pair(Concat("last", 0), (2, 1)),
        pair(Concat("last", 0), (1, 1)),
        *(pair(sum_of((ONE, factor * ONE), offset), (1, 1)) for factor in (1, -1) for offset in (0.0, 1.0)),
        pair(sum_of((np.ones(3), ONE)), (1, 1)),
    ]
    assert len({graph.sha256 for graph in graphs}) == len(graphs)


def test_a_graph_that_does_not_match_its_hash_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    proof().save(path)
    header, arrays = read_npz(path)
    factors = [key for key in arrays if ".factors." in key]
    assert factors
    for key in factors:
        write_npz(path, header, {**arrays, key: -arrays[key]})
        with pytest.raises(DataError, match="does not match its sha256"):
            certlip.verify(path)


@pytest.mark.parametrize("part", [0, 0.3, 0.9])
def test_a_truncated_file_is_refused_in_a_sentence(part: float, tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    proof().save(path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(DataError, match=r"c\.npz is damaged or not a certlip file"):
        certlip.verify(path)


ROWS = [("residual", "autolip")]
ENTRIES = {"residual": {"factory": "residual_network:make", "input_shape": [1, 4, 4], "seed": 3}}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of results, as the workflow leaves it for a network that is no chain."""
    save_weights(tmp_path / "networks/residual.pt", build(ENTRIES["residual"]).state_dict())
    export_network(residual(), SHAPE).save(tmp_path / "networks/residual.npz")
    save(tmp_path, record())
    return tmp_path


def save(folder: Path, found: Record) -> None:
    save_result(found, folder / "bounds/residual/autolip.json", folder / "certificates/residual/autolip.npz")
    collect.save(collect.collect([Record.load(folder / "bounds/residual/autolip.json")], {}), folder / "bounds.csv")


def test_a_row_of_a_network_that_is_no_chain_is_proved_by_the_graph_of_its_weights(results: Path) -> None:
    assert prove(results, ROWS, ENTRIES) == {"rows": 1, "certified": 1, "estimate": 0, "lower": 0}


def smaller() -> UpperCertificate:
    """Of a part of the graph that ends in a sum."""
    network = proof().network
    k = next(k for k, layer in enumerate(network.layers) if isinstance(layer, Sum))
    other = Sum(network.layers[k].name, (ONE,), 0 * ONE)
    layers = (*network.layers[:k], other, *network.layers[k + 1 :])
    sources = (*network.sources[:k], network.sources[k][:1], *network.sources[k + 1 :])
    (segment,) = proof().segments
    changed = Network(layers, network.input_shape, sources)
    proved = replace(segment, constant=along(changed, segment.constants))
    return replace(proof(), network=changed, segments=(proved,))


OTHER_GRAPHS = {
    "other wiring": smaller,
    "no layers": lambda: UpperCertificate(Network((), SHAPE), (SegmentProof(0, 0, "constants", 1.0),)),
    "other weights": lambda: (
        certlip.bound(
            zoo.from_factory("residual_network:make", 4).double().eval(), SHAPE, "autolip", certified=True
        ).certificate
    ),
}


@pytest.mark.parametrize("other", OTHER_GRAPHS)
def test_a_row_whose_graph_is_not_that_of_its_weights_is_refused(results: Path, other: str) -> None:
    """Also where record, certificate and table agree."""
    certificate = OTHER_GRAPHS[other]()
    assert certlip.verify(certificate)  # of the other graph it is true
    changes = {"certificate": certificate, "value": certificate.value, "weights_sha256": certificate.network.sha256}
    save(results, record().model_copy(update=changes))
    with pytest.raises(DataError, match="other weights than those of its record"):
        prove(results, ROWS, ENTRIES)


def test_another_network_than_the_weights_export_to_is_refused(results: Path) -> None:
    export_network(torch.nn.Linear(2, 2), (2,)).save(results / "networks/residual.npz")
    with pytest.raises(DataError, match=r"residual\.npz is not what .*residual\.pt exports to"):
        prove(results, ROWS, ENTRIES)


def test_a_certificate_of_a_version_that_knew_graphs_apart_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    proof().save(path)
    header, arrays = read_npz(path)
    write_npz(path, {**header, "certificate": "graph"}, arrays)
    with pytest.raises(DataError, match=r"c\.npz is of an older version.*bound the network again"):
        certlip.verify(path)
