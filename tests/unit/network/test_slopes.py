"""Activations whose slopes differ from neuron to neuron, and neurons that carry a value past a layer with slope 1."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
import torch

import certlip
from certlip import sdp
from certlip.base.errors import DataError
from certlip.base.files import read_npz, write_npz
from certlip.methods import eclipse_fast
from certlip.methods.seqlip import search
from certlip.network import Activation, Array, Conv, Dense, Flatten, Network
from certlip.network.chain import Chain, linear_groups, scale
from certlip.network.slopes import NARROW, compose, half_widths, over_pixels, widened
from certlip.proof.certify import REACH, certify, is_feasible, margin
from certlip.proof.elimination import cheapest
from certlip.proof.lmi import Lmi
from certlip.proof.proposals import smallest_rho, start
from certlip.proof.tangent import lower_at
from certlip.sdp.dense import dense_matrix
from certlip.sdp.solvers._conic import coefficients, constant_part

SLOPES = (-0.7, 0.0, 0.0, 0.3, 1.0, 1.0, 1.0, 1.5)

METHODS: list[tuple[str, dict[str, Any]]] = [
    ("product", {}),
    ("gram", {}),
    ("liplt", {}),
    ("eclipse", {}),
    ("eclipse_fast", {}),
    ("lipsdp", {}),
    ("lipsdp", {"solver": "clarabel"}),
    ("lipsdp", {"solver": "scs"}),
    ("lipsdp_layer", {}),
    ("seqlip", {"mode": "exact"}),
    ("dcp", {"merge": "sum"}),
    ("dcp", {"merge": "folded"}),
]


def dense(name: str, weight: Array) -> Dense:
    return Dense(name, weight, np.linspace(-1, 1, len(weight)))


def act(name: str, *slopes: float) -> Activation:
    return Activation(name, "leaky_relu", np.array(slopes))


def random_flat(seed: int, *sizes: int) -> Network:
    """Dense layers of these sizes, a slope of `SLOPES` a neuron between."""
    rng = np.random.default_rng(seed)
    layers: list[Dense | Activation] = []
    for i, (n, m) in enumerate(pairwise(sizes)):
        weight = rng.standard_normal((m, n)) * (i != 1 or np.arange(n) > 0)  # what the first neuron gives is not read
        layers += [dense(f"d{i}", weight), act(f"a{i}", *rng.choice(SLOPES, m))]
    return Network(tuple(layers[:-1]), sizes[:1])


def random_maps(seed: int) -> Network:
    """Two convolutions and a dense layer, a slope of `SLOPES` a channel between."""
    rng = np.random.default_rng(seed)
    first, second = (Conv(f"c{i}", rng.standard_normal((2, i, 2, 1)), np.zeros(2)) for i in (1, 2))
    acts = [act(f"a{i}", *rng.choice(SLOPES, 2)) for i in range(2)]
    last = dense("d", rng.standard_normal((2, 2)))
    return Network((first, acts[0], second, acts[1], Flatten("flat"), last), (1, 3, 1))


NETWORKS = {
    **{f"flat{seed}": random_flat(seed, 3, 4, 3, 2) for seed in range(8)},
    "one layer": random_flat(20, 3, 7, 2),
    "deep": random_flat(21, 2, 2, 2, 2, 2, 3),
    **{f"maps{seed}": random_maps(seed) for seed in range(4)},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_every_certified_bound_is_proved_and_above_every_pattern_of_slopes(name: str) -> None:
    network = NETWORKS[name]
    largest = oracle.largest_pattern_norm(network)
    lower = certlip.bound(network, method="lower", n_points=16, n_starts=2, n_steps=20)
    assert lower.value is not None
    assert lower.value <= oracle.attained_norm(network) * (1 + 1e-12)
    values: dict[str, float] = {}
    for method, options in METHODS:
        record = certlip.bound(network, method=method, **options)
        assert record.value is not None, (method, record.reason)
        assert record.kind == "certified"
        verification = certlip.verify(record.certificate)
        assert verification, (method, verification.reason)
        assert record.value >= largest * (1 - 1e-9), method
        assert record.value >= lower.value
        values.setdefault(method, record.value)
    product = float(np.prod([np.linalg.norm(w, 2) for w in Chain.of(network).weights]))
    for a, b in Chain.of(network).slopes:
        product *= float(np.abs([a, b]).max())
    assert values["lipsdp"] <= values["lipsdp_layer"] * (1 + 2e-3)
    assert values["lipsdp_layer"] <= min(product, values["eclipse_fast"]) * (1 + 2e-3)
    assert values["liplt"] <= product * (1 + 1e-8)
    assert values["seqlip"] <= product * (1 + 1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_solvers_agree_where_slopes_differ(name: str) -> None:
    lmi = Lmi.of(Chain.of(NETWORKS[name]))
    found = [sdp.solve_lmi(lmi, solver, rtol=1e-5).bound for solver in ("structured", "clarabel")]
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_the_sampled_quotients_of_a_network_are_below_its_bounds() -> None:
    network = random_maps(3)
    assert oracle.sampled_quotient(network, 0) <= certlip.bound(network, method="lipsdp").value


def residual(seed: int, width: int, n_blocks: int) -> tuple[list[tuple[Array, Array]], Array, Array]:
    """(W1, W2) of each block x -> relu(W2 relu(W1 x) + x), and the matrices before and after them."""
    rng = np.random.default_rng(seed)
    blocks = [(rng.standard_normal((width, width)), rng.standard_normal((width, width))) for _ in range(n_blocks)]
    scaled = [(w / np.linalg.norm(w, 2), v / np.linalg.norm(v, 2)) for w, v in blocks]
    return scaled, rng.standard_normal((width, width)), rng.standard_normal((2, width))


def carried(seed: int, width: int, n_blocks: int, slope: float = 1.0) -> Network:
    """The same as a chain: each block's input beside its neurons, through an activation with this slope."""
    blocks, first, last = residual(seed, width, n_blocks)
    layers: list[Dense | Activation] = [Dense("first", first, np.zeros(width)), Activation("relu", "relu")]
    one = np.eye(width)
    for i, (w, v) in enumerate(blocks):
        layers += [Dense(f"{i}.1", np.vstack([w, one]), np.zeros(2 * width))]
        layers += [act(f"{i}.carry", *np.repeat([0.0, slope], width))]
        layers += [Dense(f"{i}.2", np.hstack([v, one]), np.zeros(width)), Activation(f"{i}.relu", "relu")]
    return Network((*layers, Dense("last", last, np.zeros(2))), (width,))


@pytest.mark.parametrize(("width", "n_blocks"), [(4, 1), (6, 3), (10, 6), (24, 8)])
def test_neurons_with_slope_one_carry_a_value_and_lipsdp_is_near_its_dual(width: int, n_blocks: int) -> None:
    network = carried(width, width, n_blocks)
    inputs = np.random.default_rng(1).standard_normal((5, width))
    blocks, first, last = residual(width, width, n_blocks)
    expected = np.maximum(inputs @ first.T, 0.0)
    for w, v in blocks:
        expected = np.maximum(np.maximum(expected @ w.T, 0.0) @ v.T + expected, 0.0)
    np.testing.assert_allclose(network.forward(inputs), expected @ last.T, rtol=1e-12, atol=1e-12)
    record = certlip.bound(network, method="lipsdp")
    assert record.gap is not None
    assert record.gap < 1e-3
    assert certlip.verify(record.certificate)
    through_relu = certlip.bound(carried(width, width, n_blocks, slope=0.0), method="lipsdp")
    assert record.value <= through_relu.value * (1 + 1e-3)


def test_newtons_method_takes_over_and_claims_no_dual_value_but_that_of_the_given_slopes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from certlip.sdp.solvers import structured
    from certlip.sdp.structured import rounds

    lmi = sdp.reduce(Lmi.of(Chain.of(carried(3, 5, 2))))[0]
    best = certify(lmi, sdp.solve_lmi(lmi).multipliers).rho
    monkeypatch.setattr(rounds, "MAX_ROUNDS", 1)
    proposal = structured.solve(lmi, rtol=1e-5, threads=1, max_seconds=None)
    assert proposal.rho is not None
    assert proposal.rho <= best * (1 + 1e-3)
    monkeypatch.setattr("certlip.network.slopes.NARROW", 1e-2)
    proposal = structured.solve(lmi, rtol=1e-5, threads=1, max_seconds=None)
    assert "Newton" in proposal.message
    assert proposal.rho is not None
    assert proposal.lower is not None
    assert proposal.lower <= best <= proposal.rho <= 1.1 * best


def test_the_rows_of_folded_programs_carry_values_too() -> None:
    """With ReLU there as well, whose slopes include 1, the bound is no smaller; else nothing would be proved."""

    def network(slope: float) -> Network:
        rng = np.random.default_rng(0)
        convs = [Conv(f"c{i}", rng.standard_normal((2, n, 3, 3)), np.zeros(2)) for i, n in enumerate((1, 2, 2))]
        return Network((convs[0], act("a", 0.0, slope), convs[1], act("b", slope, 0.0), convs[2]), (1, 9, 9))

    carrying, rectified = (certlip.bound(network(s), method="dcp", merge="folded", fallback=False) for s in (1.0, 0.0))
    assert carrying.solver == "folded"
    assert carrying.value is not None
    assert carrying.value <= rectified.value * (1 + 1e-3)


def test_multipliers_of_eclipse_fast_are_those_of_the_start_but_for_a_factor_a_layer() -> None:
    """So LipSDP-Layer, whose points are such multiples, may begin with them."""
    lmi = Lmi.of(Chain.of(random_flat(1, 3, 5, 4, 2)))
    for proposed, first in zip(eclipse_fast.propose(lmi), start(lmi), strict=True):
        np.testing.assert_allclose(proposed / proposed[0], first / first[0], rtol=1e-12)


def test_gates_of_neurons_that_carry_a_value_are_not_searched() -> None:
    rng = np.random.default_rng(0)
    a, b, low = rng.standard_normal((3, 5)), rng.standard_normal((5, 2)), np.array([0.0, 1.0, 1.0, -0.5, 1.0])
    tree = search._Tree.of(a, b, (low, np.ones(5)), None)
    nodes = tree.root
    for gate in range(5):
        nodes = tree.split(gate, *nodes)
    assert not nodes[1].any()
    assert sorted(map(tuple, nodes[0].tolist())) == [(x, 1.0, 1.0, y, 1.0) for x in (0.0, 1.0) for y in (-0.5, 1.0)]


def test_general_solvers_are_given_the_inequality_with_slopes_that_are_wide_enough() -> None:
    lmi = Lmi.of(Chain.of(carried(0, 3, 1)))
    wide = replace(lmi, slopes=tuple(map(widened, lmi.slopes)))
    multipliers = start(lmi)
    given = coefficients(lmi) @ np.concatenate([[7.0], *multipliers]) + constant_part(lmi).ravel()
    np.testing.assert_allclose(given.reshape(lmi.order, -1), dense_matrix(wide, 7.0, multipliers), rtol=1e-12)


def test_a_search_over_gates_of_which_all_are_fixed_ends() -> None:
    a, b = np.array([[3.0, 0.0], [0.0, 1.0]]), np.eye(2)
    found = search.largest_gated_norm(a, b, (np.ones(2), np.ones(2)))
    assert 3.0 <= found <= 3.0 * (1 + 1e-6)


def test_an_input_that_is_carried_past_the_first_layer_is_in_the_smallest_rho() -> None:
    rng = np.random.default_rng(0)
    first, last = np.vstack([rng.standard_normal((3, 3)), np.eye(3)]), rng.standard_normal((2, 6))
    network = Network((dense("first", first), act("a", 0.0, 0.0, 0.0, 1.0, 1.0, 1.0), dense("last", last)), (3,))
    lmi = Lmi.of(Chain.of(network))
    assert lmi.extended(1.0, start(lmi))[0][0].ndim == 1
    rho = smallest_rho(lmi, start(lmi))
    assert rho is not None
    assert np.linalg.eigvalsh(dense_matrix(lmi, rho, start(lmi)))[0] == pytest.approx(0.0, abs=1e-9 * rho)
    record = certlip.bound(network, method="lipsdp")
    assert record.gap is not None
    assert record.gap < 1e-3


def test_the_search_of_lower_takes_the_slope_of_each_channel() -> None:
    from certlip.pytorch.jacobian import Rescaled, linearise

    slopes = np.array([0.0, -0.5, 1.0, 2.0])
    conv = Conv("c", np.ones((4, 1, 1, 1)), np.zeros(4))
    rescaled = Rescaled.of(Network((conv, Activation("a", "leaky_relu", slopes)), (1, 1, 2)))
    points = torch.tensor([[[[-1.0, 3.0]]]], dtype=torch.float64)
    derivative = linearise(rescaled, points).push(torch.ones_like(points)) * 2.0**rescaled.exponent
    assert np.array_equal(derivative[0, :, 0].detach().numpy(), np.stack([slopes, np.ones(4)], axis=1))


def test_a_layer_of_mostly_relu_is_eliminated_like_one_of_relu() -> None:
    """Neurons that carry a value leave the matrix before them diagonal; those that read more do not."""
    lmi = Lmi.of(Chain.of(carried(0, 4, 2)))
    assert all(lmi.are_vectors)
    multipliers = start(lmi)
    assert [block.ndim for block in lmi.extended(1.0, multipliers)[0]] == [1] * 7
    steep = Lmi.of(Chain.of(random_flat(3, 3, 4, 2)))
    assert steep.are_vectors == [block.ndim == 1 for block in steep.extended(1.0, start(steep))[0]]
    assert not steep.are_vectors[0]


@pytest.mark.parametrize("name", NETWORKS)
def test_the_start_is_feasible_and_no_worse_than_the_product(name: str) -> None:
    lmi = Lmi.of(Chain.of(NETWORKS[name]))
    rho = smallest_rho(lmi, start(lmi))
    product = float(np.prod([np.linalg.norm(w, 2) for w in lmi.weights]))
    steepest = float(np.prod([np.abs(pair).max() for pair in lmi.slopes]))
    assert rho is not None
    assert np.sqrt(rho) <= 1.05 ** len(lmi.weights) * product * steepest
    assert certify(lmi, start(lmi)).rho <= rho * (1 + 1e-3)


def test_each_block_of_a_narrow_inequality_has_a_margin_of_what_touches_it() -> None:
    narrow = Lmi.of(Chain.of(carried(0, 8, 12)))
    rho, multipliers = 10 * certify(narrow, start(narrow)).rho, start(narrow)
    wide = replace(narrow, slopes=tuple((np.where(a == b, 0.999, a), b) for a, b in narrow.slopes))
    assert narrow.is_narrow
    assert not wide.is_narrow
    ours, whole = margin(narrow, rho, multipliers), margin(wide, rho, multipliers)
    assert ours is not None
    assert whole is not None
    assert ours < whole / 2


def test_slopes_of_neurons_in_a_row_are_composed_exactly_or_outwards() -> None:
    first, second = (np.array([-0.5, 0.0, 1.0]), np.array([1.0, 1.0, 1.0])), (np.array([0.1, -0.3, 0.3]), np.ones(3))
    low, high = compose(first, second)
    for k in range(3):
        products = [Fraction(a[k]) * Fraction(b[k]) for a in first for b in second]
        assert low[k] <= min(products) <= low[k] + 1e-15
        assert high[k] - 1e-15 <= max(products) <= high[k]
    assert low[2] == 0.3  # slopes of 0 and 1 round nothing
    assert compose((0.0, 1.0), (0.0, 1.0)) == (0.0, 1.0)
    assert compose((0.1, 1.0), (np.array([0.5]), np.array([1.0])))[1] > 1.0


def test_slopes_a_channel_are_those_of_its_pixels_and_two_numbers_where_all_are_alike() -> None:
    network = random_maps(0)
    network = Network((network.layers[0], act("a", 0.5, 1.0), *network.layers[2:]), network.input_shape)
    low, high = linear_groups(network)[1][0]
    assert np.array_equal(low, [0.5, 0.5, 1.0, 1.0])
    assert np.array_equal(high, np.ones(4))
    assert act("a", 0.5, 0.5).slopes == (0.5, 1.0)
    assert act("a", 1.0, 1.0).slopes == (1.0, 1.0)
    assert over_pixels((0.0, 1.0), 3) == (0.0, 1.0)
    same = Network((dense("d", np.ones((2, 2))), act("a", 1.0, 1.0), dense("e", np.ones((1, 2)))), (2,))
    assert len(Chain.of(same).weights) == 1


def test_narrow_intervals_are_widened_and_no_others() -> None:
    slopes = np.array([0.0, 1.0, 0.5]), np.array([1.0, 1.0, 1.0])
    low, high = widened(slopes)
    assert np.array_equal(half_widths(slopes), [0.5, NARROW, 0.25])
    assert np.array_equal(low, [0.0, 1 - NARROW, 0.5])
    assert np.array_equal(high, [1.0, 1 + NARROW, 1.0])
    assert widened((0.25, 0.5)) == (0.25, 0.5)


def test_a_lower_bound_takes_the_slope_of_each_channel() -> None:
    """x -> -x through channels of slopes 0, -0.5, 1 and 2: |f'| is the root of the sum of their squares."""
    slopes = np.array([0.0, -0.5, 1.0, 2.0])
    conv = Conv("c", -np.ones((4, 1, 1, 1)), np.zeros(4))
    network = Network((conv, Activation("a", "leaky_relu", slopes)), (1, 1, 1))
    found = lower_at(network, np.ones((1, 1, 1)), np.ones((1, 1, 1)))
    assert np.linalg.norm(slopes) * (1 - 1e-14) <= found <= np.linalg.norm(slopes)


def test_certificates_carry_the_slopes_and_others_are_refused(tmp_path: Path) -> None:
    network = random_maps(2)
    network = Network((network.layers[0], act("a", 0.0, 1.0), *network.layers[2:]), network.input_shape)
    for method in ("product", "liplt", "lipsdp", "dcp", "lower"):
        path = tmp_path / f"{method}.npz"
        record = certlip.bound(network, method=method)
        assert record.certificate is not None
        record.certificate.save(path)
        assert certlip.verify(path)
        header, arrays = read_npz(path)
        write_npz(path, header, {**arrays, "1.negative_slope": np.array([0.0, 1.5])})
        with pytest.raises(DataError, match="sha256"):
            certlip.verify(path)
        if method != "lower":
            steeper = Network((network.layers[0], act("a", 0.0, 9.0), *network.layers[2:]), network.input_shape)
            assert not certlip.verify(replace(record.certificate, network=steeper))
    for forged in (np.array([0.0, np.nan]), np.zeros(3), np.zeros((2, 1)), np.array([False, True])):
        write_npz(path, header, {**arrays, "1.negative_slope": forged})
        with pytest.raises(DataError):
            certlip.verify(path)


def test_multipliers_for_other_slopes_prove_nothing() -> None:
    lmi = Lmi.of(Chain.of(carried(1, 5, 2)))
    solution = sdp.solve_lmi(lmi)
    assert is_feasible(lmi, solution.rho, solution.multipliers)
    wider = tuple((np.minimum(a, 0.9) if np.ndim(a) else a, b) for a, b in lmi.slopes)
    assert not is_feasible(replace(lmi, slopes=wider), solution.rho, solution.multipliers)


@pytest.mark.parametrize("widths", [(3, 4, 2, 5, 3, 4, 2, 3), (2, 9, 2, 9, 2, 9, 2, 9, 2)])
def test_blocks_of_a_factorisation_touch_no_others_than_those_at_most_two_away(widths: tuple[int, ...]) -> None:
    """What `margin` counts on: of |R|'|R|, where blocks that are eliminated come before those that are kept."""
    rng = np.random.default_rng(0)
    lmi = Lmi(tuple(rng.standard_normal((m, n)) for n, m in pairwise(widths)), ((0.0, 1.0),) * (len(widths) - 2))
    diagonal, couplings = lmi.extended(1e9, start(lmi))
    kept = cheapest(widths, [True] * len(widths))[1]
    order = [*sorted(set(range(len(widths))) - set(kept)), *kept]
    places = np.split(np.arange(sum(widths)), np.cumsum(widths)[:-1])
    matrix = np.diag(np.concatenate(diagonal))
    for i, coupling in enumerate(couplings, start=1):
        matrix[np.ix_(places[i], places[i - 1])] = coupling.entries()
    permutation = np.concatenate([places[i] for i in order])
    matrix = np.tril(matrix) + np.tril(matrix, -1).T
    factor = np.abs(np.linalg.cholesky(matrix[np.ix_(permutation, permutation)]))
    touched = np.zeros_like(matrix)
    touched[np.ix_(permutation, permutation)] = factor @ factor.T
    distances = {abs(i - j) for i, a in enumerate(places) for j, b in enumerate(places) if touched[np.ix_(a, b)].any()}
    assert len(kept) < len(widths)
    assert max(distances) <= REACH


@pytest.mark.parametrize("scales", [(1.0, 1.0), (1e-200, 1e-120), (1e150, 1e-321)])
def test_radii_of_scaled_columns_cover_rounding_and_underflow(scales: tuple[float, float]) -> None:
    rng = np.random.default_rng(0)
    matrix, factors = scales[0] * rng.standard_normal((4, 9)), scales[1] * rng.standard_normal(9)
    off = 1e-12 * np.abs(matrix)
    for sign in (-1, 0, 1):
        scaled, radius = scale(matrix, factors, off if sign else None)
        for i, j in np.ndindex(matrix.shape):
            exact = (Fraction(matrix[i, j]) + sign * Fraction(off[i, j])) * Fraction(factors[j])
            assert abs(exact - Fraction(scaled[i, j])) <= Fraction(radius[i, j])


@pytest.mark.parametrize("seed", range(5))
def test_liplt_is_its_recursion_with_diagonal_matrices_of_middles_and_half_widths(seed: int) -> None:
    network = random_flat(seed, 4, 5, 6, 3)
    chain, constants = Chain.of(network), list[float]()
    for i, weight in enumerate(chain.weights):
        product, terms = weight, []
        for j in range(i, 0, -1):
            a, b = chain.slopes[j - 1]
            terms.append(np.linalg.norm(product * (np.subtract(b, a) / 2), 2) * constants[j - 1])
            product = product * (np.add(a, b) / 2) @ chain.weights[j - 1]
        constants.append(sum(terms) + float(np.linalg.norm(product, 2)))
        if i:
            steepest = float(np.abs(chain.slopes[i - 1]).max())
            constants[i] = min(constants[i], steepest * float(np.linalg.norm(weight, 2)) * constants[i - 1])
    value = certlip.bound(network, method="liplt").value
    assert constants[-1] * (1 - 1e-12) <= value <= constants[-1] * (1 + 1e-8)
