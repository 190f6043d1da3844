"""Diagonal blocks eliminated first: what is left is the Schur complement, however sparse the couplings are."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import linalg

from certlip.base.rounding import gamma
from certlip.network import Activation, Array, Conv, Dense, Flatten, Network
from certlip.network.chain import Chain, relu_chain
from certlip.proof import elimination
from certlip.proof.certify import is_feasible
from certlip.proof.elimination import cheapest, eliminate
from certlip.proof.lmi import Lmi
from certlip.proof.proposals import smallest_rho, start
from certlip.sdp.solvers import structured

RNG = np.random.default_rng(0)


def conv(name: str, n_out: int, n_in: int, stride: int = 1, padding: int = 0) -> Conv:
    weight = RNG.standard_normal((n_out, n_in, 3, 3)) / math.sqrt(9 * n_in)
    return Conv(name, weight, np.zeros(n_out), stride=(stride, stride), padding=(padding,) * 4)


def relu() -> Activation:
    return Activation("relu", "relu")


CHAINS = {
    "conv": Chain.of(Network((conv("a", 3, 1), relu(), conv("b", 3, 3)), (1, 8, 8))),
    "conv, colours, padding, stride": Chain.of(
        Network((conv("a", 4, 3, padding=1), relu(), conv("b", 4, 4, 2), relu(), conv("c", 2, 4)), (3, 9, 9))
    ),
    "conv and dense": Chain.of(
        Network(
            (
                *(conv("a", 2, 1), relu(), conv("b", 3, 2), relu(), Flatten("flatten")),
                *(Dense("c", RNG.standard_normal((5, 48)), np.zeros(5)), relu()),
                Dense("d", RNG.standard_normal((3, 5)), np.zeros(3)),
            ),
            (1, 8, 8),
        )
    ),
    "dense": relu_chain([RNG.standard_normal((n, m)) for m, n in itertools.pairwise([9, 7, 8, 6, 4])]),
    "a wide matrix": relu_chain([RNG.standard_normal((4, 90))]),
}


def lmi_of(name: str, with_metrics: bool) -> Lmi:
    chain = CHAINS[name]
    if not with_metrics:
        return Lmi.of(chain)
    m, q = RNG.uniform(0.5, 2, chain.weights[0].shape[1]), RNG.uniform(0.5, 2, len(chain.weights[-1]))
    q[0] = 0
    return Lmi.of(chain, m, q)


def whole(diagonal: list[Array], below: list[Array]) -> Array:
    """A block tridiagonal matrix."""
    matrix = linalg.block_diag(*(np.diag(block) if block.ndim == 1 else block for block in diagonal))
    starts = np.cumsum([0, *map(len, diagonal)])
    for block, i, j, k in zip(below, starts, starts[1:], starts[2:], strict=False):
        matrix[j:k, i:j], matrix[i:j, j:k] = block, block.T
    return matrix


@pytest.mark.parametrize("with_metrics", [False, True])
@pytest.mark.parametrize("slab", [1, 5, 128])
@pytest.mark.parametrize("name", CHAINS)
def test_what_is_left_is_the_schur_complement_to_the_rounding_bound(
    name: str, slab: int, with_metrics: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elimination, "SLAB", slab)
    lmi = lmi_of(name, with_metrics)
    rho = 1.1 * (smallest_rho(lmi, start(lmi)) or 0.0)
    diagonal, couplings = lmi.extended(rho, start(lmi))
    sizes = [len(block) for block in diagonal]
    _, kept = cheapest(sizes, [True] * len(sizes))
    dense = whole(diagonal, [coupling.entries() for coupling in couplings])
    is_kept = np.repeat([i in kept for i in range(len(sizes))], sizes)
    rows = dense[np.ix_(~is_kept, is_kept)] / np.sqrt(np.diagonal(dense)[~is_kept])[:, None]
    expected = dense[np.ix_(is_kept, is_kept)] - rows.T @ rows
    left = eliminate(diagonal, couplings)
    assert left is not None
    # the order of the neurons may differ
    difference = linalg.eigvalsh(whole(*left)) - linalg.eigvalsh(expected)
    assert np.abs(difference).max() <= 2 * gamma(len(dense) + 2) * np.trace(dense)


def test_the_blocks_kept_are_those_that_cost_least() -> None:
    def cost(kept: tuple[int, ...], sizes: list[int]) -> float:
        n, total = [0, *sizes, 0], 0.0
        for i in range(len(sizes)):
            if i not in kept:
                total += sizes[i] * (n[i] + n[i + 2]) ** 2 / 2
        for i in kept:
            total += sizes[i] ** 3 / 6
        return total + sum(
            sizes[i] * sizes[j] * (sizes[i] + sizes[j]) / 2 for i, j in itertools.pairwise(kept) if j - i <= 2
        )

    for _ in range(200):
        sizes = [int(n) for n in RNG.integers(1, 40, RNG.integers(2, 7))]
        vectors = [bool(v) for v in RNG.random(len(sizes)) < 0.8]
        ways = [
            kept
            for k in range(1, len(sizes) + 1)
            for kept in itertools.combinations(range(len(sizes)), k)
            if all(vectors[i] or i in kept for i in range(len(sizes)))
            and all(i in kept or i + 1 in kept for i in range(len(sizes) - 1))
        ]
        chosen = tuple(cheapest(sizes, vectors)[1])
        assert chosen in ways
        assert cost(chosen, sizes) == pytest.approx(min(cost(kept, sizes) for kept in ways))


@pytest.mark.parametrize("name", CHAINS)
def test_a_forged_rho_slightly_below_is_refused(name: str) -> None:
    lmi = lmi_of(name, with_metrics=False)
    multipliers = structured.solve(lmi, rtol=1e-3, threads=1, max_seconds=None).multipliers
    boundary = smallest_rho(lmi, multipliers)
    assert boundary is not None
    assert is_feasible(lmi, boundary * (1 + 1e-9), multipliers)
    for share in (1e-12, 1e-9, 1e-6, 1e-3):
        assert not is_feasible(lmi, boundary * (1 - share), multipliers)
