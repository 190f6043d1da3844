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
from test_autolip import Graph as Module
from test_autolip import seeded
from test_certificate import after_each_change

import certlip
from certlip import collect, zoo
from certlip.base.errors import DataError, UnsupportedLayer
from certlip.base.files import read_npz, write_npz, write_refusal
from certlip.base.record import Kind, Record
from certlip.completeness import prove
from certlip.network import Activation, Array, Dense, Network
from certlip.network.computation_graph import Concat, Graph, Step, Sum
from certlip.proof import certificate as certificates
from certlip.proof.certificate import GraphCertificate
from certlip.pytorch.export import export_network
from certlip.pytorch.export_graph import export_graph
from certlip.pytorch.weights import save_weights
from certlip.solving.evaluate import save_result
from certlip.workflow import build

SHAPE = (1, 4, 4)


@cache
def residual() -> torch.nn.Module:
    return zoo.from_factory("residual_network:make", 3).double().eval()


@cache
def record() -> Record:
    return certlip.bound(residual(), SHAPE, "autolip", name="residual", certified=True)


def proof() -> GraphCertificate:
    found: GraphCertificate = record().certificate
    return found


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


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("case", PIECEWISE_LINEAR)
def test_certified_value_of_a_graph_is_never_below_the_true_constant(case: str, seed: int) -> None:
    function, as_chain = PIECEWISE_LINEAR[case]
    module = seeded(Module(function), seed)
    torch.nn.init.zeros_(module.a.bias)
    torch.nn.init.zeros_(module.b.bias)
    same = as_chain(weight(module.a), weight(module.b))
    x = np.random.default_rng(seed).standard_normal((1, 4))
    np.testing.assert_allclose(oracle.forward(same, x[0]), module(torch.tensor(x)).detach().numpy()[0], rtol=1e-12)
    found = certlip.bound(module, (4,), "autolip", certified=True)
    assert found.kind is Kind.CERTIFIED
    assert oracle.is_at_least(found.value, same)
    assert certlip.verify(found.certificate)


def test_a_graph_computes_what_its_module_does() -> None:
    inputs = np.random.default_rng(0).standard_normal((3, *SHAPE))
    graph = export_graph(residual(), SHAPE)
    expected = residual()(torch.tensor(inputs)).detach().numpy()
    np.testing.assert_allclose(graph.forward(inputs), expected, rtol=1e-12)
    operations = {type(step.operation) for step in graph.steps}
    assert operations == {Network, Sum, Concat}
    assert graph.shapes[-1] == (2,)


def test_a_certificate_of_a_graph_holds_in_memory_and_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    proof().save(path)
    assert certificates.kind(path) == "graph"
    loaded = certificates.load(path)
    assert isinstance(loaded, GraphCertificate)
    assert loaded.network.sha256 == record().weights_sha256
    inputs = np.random.default_rng(1).standard_normal((2, *SHAPE))
    assert np.array_equal(loaded.network.forward(inputs), proof().network.forward(inputs))
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
    for k, (step, constants) in enumerate(zip(proof().network.steps, proof().constants, strict=True)):
        for i, constant in enumerate(constants):
            changed = (*constants[:i], constant * factor, *constants[i + 1 :])
            forged = replace(proof(), constants=(*proof().constants[:k], changed, *proof().constants[k + 1 :]))
            verification = certlip.verify(forged)
            assert not verification
            assert verification.reason.startswith(f"step {step.name}: ")


def test_constants_that_do_not_belong_to_layers_are_rejected() -> None:
    is_layer = [isinstance(step.operation, Network) for step in proof().network.steps]
    for k in (is_layer.index(True), is_layer.index(False)):
        more = (*proof().constants[k], 0.5)
        forged = replace(proof(), constants=(*proof().constants[:k], more, *proof().constants[k + 1 :]))
        assert not certlip.verify(forged)
    with pytest.raises(DataError, match="steps have constants"):
        replace(proof(), constants=proof().constants[:-1])


def pair(operation: Any, sources: tuple[int, ...], last: str = "last") -> Graph:
    """Two layers of the same input, 3 and 2 wide, and a step that joins them."""
    wide = [Network((Dense(f"d{n}", np.ones((n, 4)), np.zeros(n)),), (4,)) for n in (3, 2)]
    return Graph((Step("a", (0,), wide[0]), Step("b", (0,), wide[1]), Step(last, sources, operation)), (4,))


ONE = np.array(1.0)


@pytest.mark.parametrize(
    ("operation", "sources"),
    [
        (Sum((ONE, ONE), np.array(0.0)), (1, 2)),
        (Sum((ONE,), np.array(0.0)), (1, 1)),
        (Sum((ONE,), np.array(np.nan)), (1,)),
        (Sum((ONE * np.inf,), np.array(0.0)), (1,)),
        (Sum((np.ones(2),), np.array(0.0)), (1,)),
        (Sum((np.ones(0),), np.array(0.0)), (1,)),
        (Sum((np.ones((2, 3)),), np.array(0.0)), (1,)),
        (Sum((), np.array(0.0)), ()),
        (Concat(1), (1, 1)),
        (Concat(-1), (1, 1)),
        (Concat(0), (1, 3)),
        (Concat(0), (1, -1)),
        (Network((), (3,)), (2,)),
        (Network((), (3,)), (1, 1)),
    ],
)
def test_steps_that_do_not_fit_their_sources_are_refused_by_name(operation: Any, sources: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="last: "):
        pair(operation, sources)


def test_all_parts_layers_and_factors_of_steps_count() -> None:
    assert pair(Concat(0), (1, 2)).lipschitz([(3.0,), (2.0,), ()]) >= 5.0
    stretch = Network((Dense("d", np.ones((2, 3)), np.zeros(2)), Activation("l", "leaky_relu", 2.0)), (3,))
    assert pair(stretch, (1,)).lipschitz([(3.0,), (2.0,), (2.5, 2.0)]) >= 15.0
    twice = Sum((np.array(-2.0), np.array([0.5, 0.0, -4.0])), np.array(1.0))
    assert 18.0 <= pair(twice, (1, 1)).lipschitz([(3.0,), (2.0,), ()]) <= 18.0 * (1 + 1e-12)


def test_other_wiring_factors_and_numbers_have_another_hash() -> None:
    graphs = [
        pair(Concat(0), (1, 2)),
        pair(Concat(0), (2, 1)),
        pair(Concat(0), (1, 1)),
        *(pair(Sum((ONE, factor * ONE), offset * ONE), (1, 1)) for factor in (1, -1) for offset in (0, 1)),
        pair(Sum((np.ones(3), ONE), 0 * ONE), (1, 1)),
    ]
    assert len({graph.sha256 for graph in graphs}) == len(graphs)


def test_a_graph_that_does_not_match_its_hash_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.npz"
    proof().save(path)
    header, arrays = read_npz(path)
    factors = [key for key in arrays if ".factor." in key]
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
    with pytest.raises(UnsupportedLayer) as refusal:
        export_network(residual(), SHAPE)
    save_weights(tmp_path / "networks/residual.pt", build(ENTRIES["residual"]).state_dict())
    write_refusal(tmp_path / "networks/residual.npz", refusal.value)
    save(tmp_path, record())
    return tmp_path


def save(folder: Path, found: Record) -> None:
    save_result(found, folder / "bounds/residual/autolip.json", folder / "certificates/residual/autolip.npz")
    collect.save(collect.collect([Record.load(folder / "bounds/residual/autolip.json")], {}), folder / "bounds.csv")


def test_a_row_of_a_network_that_has_no_chain_is_proved_by_the_graph_of_its_weights(results: Path) -> None:
    assert prove(results, ROWS, ENTRIES) == {"rows": 1, "certified": 1, "estimate": 0, "lower": 0}


def smaller() -> GraphCertificate:
    """Of a part of the graph that ends in a sum."""
    network = proof().network
    k = next(k for k, step in enumerate(network.steps) if isinstance(step.operation, Sum))
    other = replace(network.steps[k], operation=Sum((ONE,), 0 * ONE), sources=network.steps[k].sources[:1])
    steps = (*network.steps[:k], other, *network.steps[k + 1 :])
    return replace(proof(), network=replace(network, steps=steps))


OTHER_GRAPHS = {
    "other wiring": smaller,
    "no steps": lambda: GraphCertificate(Graph((), SHAPE), ()),
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


def test_only_a_graph_proves_a_row_of_a_network_that_has_no_chain(results: Path) -> None:
    found = certlip.bound(torch.nn.Linear(2, 2), (2,), "product", name="residual")
    save(results, found.model_copy(update={"method": "autolip"}))
    with pytest.raises(DataError, match="other weights"):
        prove(results, ROWS, ENTRIES)


def test_a_network_instead_of_a_refusal_is_refused(results: Path) -> None:
    export_network(torch.nn.Linear(2, 2), (2,)).save(results / "networks/residual.npz")
    with pytest.raises(DataError, match=r"residual\.npz is not what .*residual\.pt exports to"):
        prove(results, ROWS, ENTRIES)
