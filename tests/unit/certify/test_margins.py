"""Constants of differences of outputs: never below the truth, proved by ordinary certificates, each bounded once."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from classifiers import classifier, convolutional
from random_networks import random_network
from torch import nn
from typer.testing import CliRunner

import certlip
from certlip.base.errors import ConfigError, DataError, LimitExceeded
from certlip.certify.margins import Constants, Margin, with_row
from certlip.cli import app
from certlip.network import Activation, Dense, Network
from certlip.pytorch.to_torch import to_torch

WAYS = ("pair", "outputs", "network")


@pytest.mark.parametrize("seed", range(4))
def test_a_row_behind_a_network_is_the_difference_of_its_outputs(seed: int) -> None:
    network = convolutional(seed)
    x = np.random.default_rng(seed).standard_normal(network.input_shape)
    outputs = oracle.forward(network, x)
    for i, j in itertools.permutations(range(3), 2):
        assert oracle.forward(with_row(network, (i, j)), x) == outputs[i] - outputs[j]
        assert oracle.forward(with_row(network, (i,)), x) == outputs[i]
    assert with_row(network, ()) is network


@pytest.mark.parametrize("kind", ["relu", "leaky_relu", "abs"])
def test_no_constant_is_below_brute_force_over_all_linear_regions(kind: str) -> None:
    network = classifier(1, 3, 4, 3, 3, kind=kind)
    by_ways = [certlip.margins(network, ways=[way]) for way in WAYS]
    for pair in itertools.combinations(range(3), 2):
        assert [found[pair].way for found in by_ways] == list(WAYS)
        assert oracle.is_at_least(min(found[pair].value for found in by_ways), with_row(network, pair))


@pytest.mark.parametrize("method", ["lipsdp", "product", "liplt", "eclipse_fast", "dcp", "torus"])
def test_methods_that_certify_give_constants_that_hold(method: str) -> None:
    network = convolutional(2, side=3)
    for pair, margin in certlip.margins(network, method=method).items():
        assert oracle.is_at_least(margin.value, with_row(network, pair))
        assert all(map(certlip.verify, margin.certificates))


def test_a_graph_has_constants_of_its_chain() -> None:
    module = Residual().double()
    found = certlip.margins(module, (4,))
    assert oracle_gradients(module, (4,), found)
    assert all(certlip.verify(margin.certificates[0]) for margin in found.values())


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.inner, self.last = nn.Linear(4, 4), nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.inner(x)) + x)


@pytest.mark.parametrize("way", WAYS)
def test_no_constant_is_below_sampled_gradients(way: str) -> None:
    for network in (classifier(5, 6, 20, 20, 4), convolutional(6, 5), classifier(7, 5, 9, 4, kind="tanh")):
        assert oracle_gradients(to_torch(network), network.input_shape, certlip.margins(network, ways=[way]))


def oracle_gradients(module: nn.Module, shape: tuple[int, ...], found: dict[tuple[int, int], Margin]) -> bool:
    """Whether each constant is at or above the largest gradient of f_i - f_j at a thousand points."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, *shape, generator=generator, dtype=torch.float64).requires_grad_(True)
    outputs = module(x)
    largest = {}
    for i, j in found:
        (gradient,) = torch.autograd.grad((outputs[:, i] - outputs[:, j]).sum(), x, retain_graph=True)
        largest[i, j] = float(gradient.flatten(1).norm(dim=1).max())
    return all(found[pair].value >= largest[pair] for pair in found)


def test_a_constant_of_a_linear_network_is_the_norm_of_a_difference() -> None:
    network = classifier(8, 5, 3)
    weight = network.layers[0].weight
    for (i, j), margin in certlip.margins(network).items():
        row = np.eye(3)[i] - np.eye(3)[j]
        exact = oracle.exact_product(oracle.rational(row[None]), oracle.rational(weight))
        assert oracle.dominates(margin.value, exact)
        assert margin.value <= np.linalg.norm(weight[i] - weight[j]) * (1 + 1e-9)


@pytest.mark.parametrize("noise", [1e-2, 1e-3, 1e-4])
@pytest.mark.parametrize("seed", range(4))
def test_of_rows_that_nearly_cancel_the_rounding_is_counted(seed: int, noise: float) -> None:
    """Their rounded difference is another row, whose norm may be smaller."""
    rng = np.random.default_rng(seed)
    first = rng.standard_normal(6)
    last = np.stack([first, first * (1 + noise * rng.standard_normal(6))])
    network = Network((Dense("a", rng.standard_normal((6, 4)), np.zeros(6)), Dense("b", last, np.zeros(2))), (4,))
    assert oracle.is_at_least(certlip.margins(network)[0, 1].value, with_row(network, (0, 1)))


@pytest.mark.parametrize("seed", range(3))
def test_of_lipsdp_a_bound_for_each_pair_is_the_smallest(seed: int) -> None:
    network = classifier(seed, 4, 12, 12, 5)
    by_pair, by_outputs, by_network = (certlip.margins(network, ways=[way], rtol=1e-6) for way in WAYS)
    for pair, margin in by_pair.items():
        assert margin.value <= by_outputs[pair].value * (1 + 1e-6)
        assert margin.value <= by_network[pair].value * (1 + 1e-6)
    smallest = certlip.margins(network, ways=WAYS, rtol=1e-6)
    assert all(smallest[pair].value <= margin.value for pair, margin in by_pair.items())


def test_the_other_ways_are_the_arithmetic_of_their_certificates() -> None:
    network = classifier(2, 4, 6, 3)
    outputs = certlip.margins(network, ways=["outputs"])[0, 2]
    first, second = (certlip.verify(c) for c in outputs.certificates)
    assert [c.network.sha256 for c in outputs.certificates] == [with_row(network, (k,)).sha256 for k in (0, 2)]
    assert outputs.value >= first.value + second.value
    (whole,) = certlip.margins(network, ways=["network"])[0, 2].certificates
    assert whole.network is network
    assert certlip.margins(network, ways=["network"])[0, 2].value ** 2 >= 2 * certlip.verify(whole).value ** 2


def test_a_pair_and_its_reverse_are_bounded_once(bounded: list[Network]) -> None:
    network = classifier(3, 4, 5, 3)
    found = certlip.margins(network, pairs=[(2, 0), (0, 2), (1, 2)])
    assert list(found) == [(2, 0), (0, 2), (1, 2)]
    assert found[2, 0].value == found[0, 2].value
    assert [n.sha256 for n in bounded] == [with_row(network, row).sha256 for row in ((0, 2), (1, 2))]


@pytest.fixture
def bounded(monkeypatch: pytest.MonkeyPatch) -> list[Network]:
    """The networks that are bounded."""
    from certlip.certify import margins

    seen: list[Network] = []

    def bound(network: Network, **how: Any) -> certlip.Record:
        seen.append(network)
        return certlip.bound(network, **how)

    monkeypatch.setattr(margins, "bound", bound)
    return seen


def alike(seed: int = 4) -> Network:
    """Outputs 0 and 3 have the same weights, and other biases."""
    network = classifier(seed, 4, 5, 3)
    last = network.layers[-1]
    assert isinstance(last, Dense)
    longer = replace(last, weight=np.vstack([last.weight, last.weight[:1]]), bias=np.arange(4.0))
    return Network((*network.layers[:-1], longer), network.input_shape)


def test_outputs_with_the_same_weights_are_one_program(bounded: list[Network]) -> None:
    network = alike()
    found = certlip.margins(network, ways=["pair", "outputs"])
    rows = [(0, 1), (0, 2), (0, 3), (1, 2), (0,), (1,), (2,)]
    assert sorted(n.layers[-1].name for n in bounded) == sorted(with_row(network, row).layers[-1].name for row in rows)
    for pair in set(found) - {(0, 3)}:
        assert found[pair].way == "pair"
        (certificate,) = found[pair].certificates
        assert certificate.network.sha256 == with_row(network, pair).sha256
        assert certlip.verify(certificate).value == found[pair].value
        assert oracle.is_at_least(found[pair].value, with_row(network, pair))
    assert found[0, 1].value == found[1, 3].value


def test_a_table_has_the_constants_of_all_pairs() -> None:
    network = alike()
    constants = Constants(network, "lipsdp", {})
    constants.find([(), (1, 3)])
    table, whole = constants.table(), certlip.margins(network, ways=["network"])[0, 1].value
    own = certlip.margins(network)[1, 3].value
    assert (table == table.T).all()
    assert (table.diagonal() == 0).all()
    assert table[0, 1] == table[3, 1] == own
    assert table[1, 2] == table[0, 3] == whole
    assert [tuple(pair) for pair in np.argwhere(np.triu(constants.known))] == [(0, 1), (1, 3)]


FORGERIES = {
    "a smaller rho": lambda block: replace(block, rho=0.99 * block.rho),
    "smaller multipliers": lambda block: replace(block, multipliers=tuple(t / 2 for t in block.multipliers)),
    "no multipliers": lambda block: replace(block, multipliers=()),
}


@pytest.mark.parametrize("how", FORGERIES)
def test_forged_certificates_are_refused(how: str) -> None:
    (certificate,) = certlip.margins(classifier(5, 4, 8, 3))[0, 1].certificates
    (segment,) = certificate.segments
    forged = FORGERIES[how](segment.blocks[0])
    constant = math.sqrt(forged.rho) * (1 + 1e-12)
    assert not certlip.verify(replace(certificate, segments=(replace(segment, blocks=(forged,), constant=constant),)))
    assert not certlip.verify(replace(certificate, segments=(replace(segment, constant=0.99 * segment.constant),)))


def test_the_certificate_of_one_pair_proves_no_other() -> None:
    network = classifier(6, 4, 8, 3)
    found = certlip.margins(network)
    least, largest = (choose(found, key=lambda pair: found[pair].value) for choose in (min, max))
    moved = replace(found[least].certificates[0], network=with_row(network, largest))
    assert not certlip.verify(moved)


def test_the_command_line_verifies_what_is_saved(tmp_path: Path) -> None:
    network = classifier(7, 4, 6, 3)
    margin = certlip.margins(network)[0, 1]
    margin.certificates[0].save(tmp_path / "margin-0-1.npz")
    answer = CliRunner().invoke(app, ["verify", str(tmp_path / "margin-0-1.npz")])
    assert (answer.exit_code, answer.stdout.split()[-1]) == (0, repr(margin.value))


def test_what_makes_no_sense_is_refused_in_words() -> None:
    network = classifier(8, 4, 6, 3)
    with pytest.raises(ConfigError, match="no margin between outputs 1 and 3; give two different ones of 0 to 2"):
        certlip.margins(network, pairs=[(1, 3)])
    with pytest.raises(ConfigError, match="no margin between outputs 1 and 1"):
        certlip.margins(network, pairs=[(1, 1)], ways=["network"])
    with pytest.raises(ConfigError, match="take some of pair, outputs, network"):
        certlip.margins(network, ways=["pairs"])  # type: ignore[list-item]
    with pytest.raises(ConfigError, match="'autolip' gives an estimate, which certifies no prediction"):
        certlip.margins(network, method="autolip")
    with pytest.raises(ConfigError, match="'lower' gives a lower bound"):
        certlip.margins(network, method="lower")
    with pytest.raises(ConfigError, match="unknown method 'lipsd'; did you mean 'lipsdp'"):
        certlip.margins(network, method="lipsd")
    with pytest.raises(DataError, match=r"an output of shape \(2, 3, 3\)"):
        certlip.margins(Network(convolutional(0, side=6).layers[:1], (1, 6, 6)))
    with pytest.raises(DataError, match=r"an output of shape \(1,\)"):
        certlip.margins(classifier(0, 3, 1))


def test_where_a_way_has_no_value_another_serves_or_the_reason_is_raised() -> None:
    network = alike()
    # f_0 - f_3 is constant, and a rounding of zero is what no multipliers are found for
    assert certlip.margins(network, pairs=[(0, 3)])[0, 3].way == "network"
    with pytest.raises(LimitExceeded, match=r"margin-0-1 has no constant: .*mosek") as refused:
        certlip.margins(network, solver="mosek")
    assert refused.value.status == "solver_failed"


def test_a_network_that_ends_with_an_activation_has_margins() -> None:
    network = Network((*classifier(10, 3, 4, 2).layers, Activation("end", "leaky_relu", -0.5)), (3,))
    found = certlip.margins(network)
    assert oracle.is_at_least(found[0, 1].value, with_row(network, (0, 1)))


def test_pairs_side_by_side_have_the_same_constants() -> None:
    network = classifier(11, 5, 10, 4)
    one, two = (certlip.margins(network, n_jobs=n) for n in (1, 2))
    assert {p: m.value for p, m in one.items()} == {p: m.value for p, m in two.items()}


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(150))
def test_no_constant_of_many_random_networks_is_below_the_truth(seed: int) -> None:
    network = random_network(seed, max_hidden=7)
    if len(network.shapes[-1]) != 1 or network.shapes[-1][0] < 2:
        pytest.skip("no classes")
    for (i, j), margin in certlip.margins(network, ways=WAYS, method=("lipsdp", "dcp", "product")[seed % 3]).items():
        assert oracle.is_at_least(margin.value, with_row(network, (i, j)))
        assert all(map(certlip.verify, margin.certificates))
