"""LipSDP by channel on the torus: never below the truth, proved again without its author, each assumption needed."""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction
from functools import cache

import numpy as np
import oracle
import pytest
import torch
from random_networks import random_convolutions
from torch import nn

import certlip
from certlip.base.errors import UnsupportedLayer
from certlip.network import Activation, Concat, Conv, Dense, Flatten, MaxPool, Network
from certlip.proof import certificate as certificates
from certlip.proof import torus_relaxation as relaxations
from certlip.proof.certificate import BlockProof, SegmentProof, UpperCertificate
from certlip.proof.torus_proof import Inequality, cosets_of, factorise
from certlip.proof.torus_relaxation import Edge, Relaxation
from certlip.pytorch.export import export_network
from certlip.sdp.torus.solve import solve

N_CHAINS, N_GRAPHS = 60, 25


@cache
def chain(seed: int) -> Network:
    return random_convolutions(seed)


class Residual(nn.Module):
    """A strided convolution, a residual sum with or without a convolution beside it, then one of four heads."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        torch.manual_seed(seed)
        c_in, c, k, stride = (int(rng.choice(options)) for options in ((1, 2), (1, 2), (1, 2, 3), (1, 1, 2)))
        padding = int(rng.integers(0, k // 2 + 1))
        self.shape = (c_in, int(rng.integers(3, 5)), int(rng.integers(3, 5)))
        self.first = nn.Conv2d(c_in, c, k, stride, padding)
        inner = int(rng.choice((1, 3)))
        self.second = nn.Conv2d(c, c, inner, 1, inner // 2)
        beside = stride == 1 and k == 2 * padding + 1 and rng.integers(2)
        self.beside = nn.Conv2d(c_in, c, 1) if beside else None
        self.third = nn.Conv2d(c, 2, int(rng.choice((1, 2))), int(rng.choice((1, 2))), 1)
        self.factor = float(rng.choice((1.0, -0.5)))
        self.head = str(rng.choice(("map", "mean", "mean of relu", "dense")))
        self.linear, self.last, self.pool = nn.Linear(2, 2), nn.Linear(2, 2), nn.AdaptiveAvgPool2d(1)
        self.double().eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = torch.relu(self.first(x))
        y = self.second(z) + (z * self.factor if self.beside is None else self.beside(x))
        z = self.third(torch.relu(y))
        if self.head == "map":
            return z
        if self.head != "mean":
            z = torch.relu(z)
        z = self.linear(torch.flatten(self.pool(z), 1))
        return self.last(torch.relu(z)) if self.head == "dense" else z


class Gates(torch.overrides.TorchFunctionMode):
    """Each call of relu multiplies with the next of these patterns instead; those that are missing are made open."""

    def __init__(self, patterns: list[torch.Tensor]) -> None:
        self.patterns, self.count = patterns, 0

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is not torch.relu:
            return function(*args, **(kwargs or {}))
        if self.count == len(self.patterns):
            self.patterns.append(torch.ones_like(args[0][0]))
        self.count += 1
        return args[0] * self.patterns[self.count - 1]


def norm_of(module: nn.Module, shape: tuple[int, ...], patterns: list[torch.Tensor]) -> float:
    n = math.prod(shape)
    inputs = torch.cat([torch.zeros(1, n), torch.eye(n)]).double().reshape(n + 1, *shape)
    with torch.no_grad(), Gates(patterns):
        outputs = module(inputs).flatten(1)
    return float(torch.linalg.matrix_norm(outputs[1:] - outputs[0], 2))


def attained(module: nn.Module, shape: tuple[int, ...]) -> float:
    """The largest norm that flipping one gate after another finds: what any bound by slopes is at least."""
    patterns: list[torch.Tensor] = []
    value, better = norm_of(module, shape, patterns), True
    while better:
        better = False
        for gate in (p.view(-1)[i : i + 1] for p in patterns for i in range(p.numel())):
            gate.sub_(1).neg_()
            found = norm_of(module, shape, patterns)
            better |= found > value * (1 + 1e-12)
            value = max(value, found)
            if found < value:
                gate.sub_(1).neg_()
    return value


def bound_of(network) -> float:
    return math.sqrt(solve(Relaxation.of(network), 1e-2, 2.0).rho)


def truth_of(network: Network) -> float:
    if any(isinstance(layer, MaxPool) for layer in network.layers):
        return oracle.sampled_quotient(network, 0)
    return oracle.largest_pattern_norm(network)


@pytest.mark.parametrize("seed", range(N_CHAINS))
def test_no_bound_of_a_random_chain_is_below_the_truth(seed):
    assert bound_of(chain(seed)) >= truth_of(chain(seed)) * (1 - 1e-12)


@pytest.mark.parametrize("seed", range(N_GRAPHS))
def test_no_bound_of_a_random_residual_network_is_below_what_its_gates_attain(seed):
    module = Residual(seed)
    assert bound_of(export_network(module, module.shape)) >= attained(module, module.shape) * (1 - 1e-12)


def _one_smaller(need):
    return lambda self, level, rows, columns: need(self, level, max(1, rows - 1), max(1, columns - 1))


def _row(*taps: float, padding: int = 1) -> Conv:
    """A convolution of one channel along the columns."""
    return Conv("conv", np.array([[[list(taps)]]]), np.zeros(1), padding=(0, 0, padding, padding))


class Difference(nn.Module):
    """z[i] - 0.9 z[i - 1] of z = relu(x), written as a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Conv2d(1, 1, (1, 3), padding=(0, 1), bias=False)
        self.shift.weight = nn.Parameter(torch.tensor([[[[-0.9, 0.0, 0.0]]]]))
        self.double().eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = torch.relu(x)
        return z + self.shift(z)


BROKEN = {
    "phases beside a skip": (
        lambda: export_network(Difference(), (1, 1, 4)),
        attained(Difference(), (1, 1, 4)),
        (relaxations, "Edge", lambda *a, offset=(0, 0), **options: Edge(*a, **options)),
    ),
    "the gap of zeros": (
        lambda: Network((_row(-1, 1, -1),), (1, 1, 3)),
        1 + math.sqrt(2),
        (relaxations._Builder, "_need", _one_smaller(relaxations._Builder._need)),
    ),
    "pixels that windows share": (
        lambda: Network((MaxPool("pool", (1, 2), (1, 1)),), (1, 1, 3)),
        math.sqrt(2),
        (relaxations, "most_windows", lambda layer, shape: 1),
    ),
    "the sum over the whole map": (
        lambda: Network((Conv("mean", np.full((1, 1, 3, 3), 1 / 9), np.zeros(1)), Flatten("flatten")), (1, 3, 3)),
        1 / 3,
        (Inequality, "_gain", lambda self, edge: 1.0),
    ),
    "what is subtracted for negative slopes": (
        lambda: Network((_row(1, 1, padding=0), Activation("abs", "abs"), _row(1, -1, padding=0)), (1, 1, 4)),
        2 * math.sqrt(2 + math.sqrt(2)),
        (Inequality, "_subtracted", lambda self, node, t: 1e-3 * t),
    ),
}
"""Assumptions: a network, its constant or less, and what is put in place of the assumption."""


@pytest.mark.parametrize("assumption", BROKEN)
def test_each_assumption_of_the_torus_is_needed(assumption, monkeypatch):
    """Without it a bound below the truth would be proved."""
    make, truth, fault = BROKEN[assumption]
    assert not _proves_less(make(), truth)
    monkeypatch.setattr(*fault)
    assert _proves_less(make(), truth)


def _proves_less(network, truth: float) -> bool:
    relaxation = Relaxation.of(network)
    found = solve(relaxation, 1e-3)
    too_small = min(found.rho, (0.95 * truth) ** 2)
    return bool(found.rho <= too_small or Inequality(relaxation, too_small, found.multipliers).holds().all())


def test_a_factorisation_says_which_matrices_of_a_batch_are_definite():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((3, 70, 70)) + 1j * rng.standard_normal((3, 70, 70))
    gram = a @ a.conj().swapaxes(-1, -2) + np.eye(70)
    gram[1] -= 1.1 * np.linalg.eigvalsh(gram[1])[0] * np.eye(70)
    below = rng.standard_normal((3, 5, 70)) + 0j
    found = factorise(np.concatenate([gram, below], axis=1), 70)
    factor = np.tril(found[:, :70])
    assert np.isnan(np.diagonal(factor, axis1=1, axis2=2).real).any(axis=1).tolist() == [False, True, False]
    for i in (0, 2):
        assert np.allclose(factor[i] @ factor[i].conj().T, gram[i])
        assert np.allclose(found[i, 70:] @ factor[i].conj().T, below[i])


def test_frequencies_and_their_conjugates_are_all_there_are():
    for sides in ((1, 1), (2, 3), (4, 4), (5, 6)):
        found = {tuple(f) for f in cosets_of(sides).tolist()}
        mirrored = {(-a % sides[0], -b % sides[1]) for a, b in found}
        assert found | mirrored == {(a, b) for a in range(sides[0]) for b in range(sides[1])}
        assert len(found & mirrored) <= 4


@pytest.mark.parametrize("name", ["chain", "graph", "flattened"])
def test_a_certificate_of_the_torus_is_proved_again_and_a_forged_one_is_not(name, tmp_path):
    model, shape = _model(name)
    record = certlip.bound(model, shape, method="torus")
    path = tmp_path / "torus.npz"
    record.certificate.save(path)
    assert certlip.verify(path)
    read = certificates.load(path)
    assert read.value == record.value
    assert read.network.sha256 == record.weights_sha256
    assert not certlip.verify(_with_rho(read, 0.9))
    for factor in (0.0, -1.0, math.nan):
        assert not certlip.verify(_with_rho(read, factor))
    assert not certlip.verify(_with_multipliers(read, lambda t: 2 * t))
    assert not certlip.verify(_with_multipliers(read, lambda t: t[:-1]))
    assert not certlip.verify(_with_multipliers(read, lambda t: -t))


def _model(name: str):
    if name == "graph":
        return Residual(3), Residual(3).shape
    rng = np.random.default_rng(0)
    first, second = rng.standard_normal((3, 1, 3, 3)), rng.standard_normal((2, 3, 3, 3))
    layers = [Conv("first", first, np.zeros(3), padding=(1,) * 4), Activation("relu", "relu")]
    layers.append(Conv("second", second, np.zeros(2), stride=(2, 2), padding=(1,) * 4))
    if name == "flattened":
        layers += [Activation("relu2", "relu"), Flatten("flatten")]
        layers += [Dense("dense", rng.standard_normal((4, 2 * 9)), np.zeros(4)), Activation("relu3", "relu")]
        layers.append(Dense("last", rng.standard_normal((2, 4)), np.zeros(2)))
    return Network(tuple(layers), (1, 6, 6)), None


def _proof(certificate):
    segment = certificate.segments[0]
    assert segment.rule == "torus"
    return segment.blocks[0]


def _changed(certificate, **changes):
    first, *others = certificate.segments
    block = replace(first.blocks[0], **changes)
    constant = math.sqrt(block.rho) if block.rho > 0 else 0.0
    return replace(certificate, segments=(replace(first, constant=constant, blocks=(block,)), *others))


def _with_rho(certificate, factor):
    return _changed(certificate, rho=factor * _proof(certificate).rho)


def _with_multipliers(certificate, change):
    return _changed(certificate, multipliers=tuple(map(change, _proof(certificate).multipliers)))


def test_one_multiplier_a_channel_is_never_tighter_than_one_a_neuron():
    for seed in range(4):
        network = _small_stack(seed)
        neuron = certlip.bound(network, method="lipsdp", rtol=1e-6).value
        assert certlip.bound(network, method="torus").value >= neuron * (1 - 1e-5)


def _small_stack(seed: int) -> Network:
    rng = np.random.default_rng(seed)
    first, second = (Conv(n, rng.standard_normal((2, c, 3, 3)), np.zeros(2)) for n, c in (("a", 1), ("b", 2)))
    return Network((first, Activation("relu", "relu"), second), (1, 7, 7))


def test_a_larger_torus_of_a_multiple_side_is_never_tighter():
    for seed in range(4):
        small = Relaxation.of(_small_stack(seed))
        double = replace(small, sides=(2 * small.sides[0], 2 * small.sides[1]))
        assert solve(double, 1e-4).rho >= solve(small, 1e-4).lower * (1 - 1e-9)


def test_a_map_that_is_flattened_beside_another_branch_is_refused_by_name():
    layers = (_row(1.0, padding=0), Flatten("first"), Flatten("second"), Concat("both", 0))
    record = certlip.bound(Network(layers, (1, 1, 4), ((0,), (1,), (0,), (2, 3))), method="torus")
    assert record.status == "unsupported"
    assert record.reason == "first: no torus for a map that is flattened beside another branch"


def test_what_lives_on_no_torus_is_refused_by_name():
    network = Network((_row(1.0, padding=0), Flatten("flat"), Dense("dense", np.ones((1, 4)), np.zeros(1))), (1, 1, 4))
    with pytest.raises(UnsupportedLayer, match="flat: no torus for Flatten"):
        Relaxation.of(network)


WINDOWS_OF_A_POINT = {
    "a convolution": Conv("window", np.array([[[[0.0, 0, -1], [0, 1, 0], [0, 0, 0]]]]), np.zeros(1), padding=(1,) * 4),
    "a convolution of stride 2": Conv("window", np.ones((1, 1, 1, 1)), np.zeros(1), stride=(2, 2)),
    "padding": Conv("window", np.ones((1, 1, 1, 1)), np.zeros(1), padding=(1,) * 4),
    "max pooling": MaxPool("window", (2, 2), (1, 1), (1, 1)),
}


@pytest.mark.parametrize("kind", WINDOWS_OF_A_POINT)
def test_windows_of_a_point_are_refused_by_name_and_certify_nothing(kind):
    """The taps of a window do not fall on one another: a point has no neighbours that a torus of side 1 would have."""
    mean = Conv("mean", np.full((1, 1, 2, 2), 0.25), np.zeros(1))
    network = Network((mean, WINDOWS_OF_A_POINT[kind]), (1, 2, 2))
    with pytest.raises(UnsupportedLayer, match="window: no torus for windows of a point"):
        Relaxation.of(network)
    block = BlockProof((None,), 1e-6, ())
    claim = UpperCertificate(network, (SegmentProof(0, 2, "torus", 1.1e-3, blocks=(block,)),))
    assert not certlip.verify(claim)


def _pointwise(name: str, weight: np.ndarray) -> Conv:
    return Conv(name, weight[:, :, None, None], np.zeros(len(weight)))


def test_the_radius_of_a_product_of_pointwise_convolutions_holds_whatever_underflows():
    """A rounding of 1e-16 of an entry of 1e-310 is no double, and the next layer may multiply it with 1e280."""
    rng = np.random.default_rng(0)
    for size in (1.0, 1e-150, 1e-310):
        first = size * rng.standard_normal((2, 1))
        large = min(1e280, 1 / size)
        second = large * np.array([[first[1, 0] / first[0, 0], -1.0]])
        relaxation = Relaxation.of(Network((_pointwise("a", first), _pointwise("b", second)), (1, 2, 2)))
        (edge,) = relaxation.output
        exact = sum(
            Fraction(a) * Fraction(b) for a, b in zip(second.ravel().tolist(), first.ravel().tolist(), strict=True)
        )
        assert abs(Fraction(edge.weight.item()) - exact) <= Fraction(edge.radius.item())


def test_products_with_a_radius_may_be_concatenated():
    rng = np.random.default_rng(0)

    layers = tuple(_pointwise(name, rng.standard_normal((2, 2))) for name in ("a", "b", "c", "d"))
    sources = ((0,), (1,), (0,), (3,), (2, 4))
    graph = Network((*layers, Concat("both", 0)), (2, 3, 3), sources)
    a, b, c, d = (layer.weight[:, :, 0, 0] for layer in layers)
    matrices = [b @ a, d @ c]
    assert bound_of(graph) >= np.linalg.norm(np.concatenate(matrices), 2) * (1 - 1e-12)


def test_an_ascent_that_overflows_ends_at_once():
    network = Network((Conv("huge", np.full((1, 1, 2, 2), 1e160), np.zeros(1)), Activation("relu", "relu")), (1, 3, 3))
    found = solve(Relaxation.of(network), 1e-2)
    assert found.n_rounds <= 1
    record = certlip.bound(network, method="torus")
    assert record.value >= 3e160
    assert certlip.verify(record.certificate)


def test_the_record_says_where_the_ascent_ran() -> None:
    from certlip.methods import torus

    assert torus.bound(chain(0), device="cpu").details["device"] == "cpu"
