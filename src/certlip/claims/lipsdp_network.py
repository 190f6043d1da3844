"""LipSDP-Network: multipliers that couple neurons (Fazlyab et al. 2019), refuted by Pauli et al. 2021."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np

from certlip.claims import Finding, Proof
from certlip.network import Activation, Array, Dense, Network
from certlip.run import bound

SOURCE = "Fazlyab et al. 2019 (arXiv 1906.04893), LipSDP-Network; refuted by Pauli et al. 2021 (arXiv 2005.02929)"

FIRST = np.array([[0.048, 0.917], [0.371, 0.613], [-0.152, -1.474]])
LAST = np.array([[1.029, -1.935, -0.24]])


def check(folder: Path) -> list[Finding]:
    """One hidden layer of three ReLUs."""
    layers = (Dense("first", FIRST, np.zeros(3)), Activation("act", "relu"), Dense("last", LAST, np.zeros(1)))
    return [
        Finding(
            "a network 2-3-1 with ReLU",
            coupled(FIRST, LAST),
            float(bound(Network(layers, (2,)), method="lower").value or 0.0),
            Proof.LOWER,
            "Claimed: the optimum of the program with a multiplier for each pair of neurons. Proved: a gradient",
            "LipSDP-Neuron, one multiplier a neuron, is a bound: increments of two ReLUs obey no inequality together",
        )
    ]


def coupled(first: Array, last: Array) -> float:
    """The optimum of the program with T = sum_i t_ii e_i e_i' + sum_{i<j} t_ij (e_i - e_j)(e_i - e_j)', t >= 0."""
    import cvxpy as cp

    n_hidden, n_in = first.shape
    units = np.eye(n_hidden)
    rows = [*units, *(units[i] - units[j] for i, j in itertools.combinations(range(n_hidden), 2))]
    t, rho = cp.Variable(len(rows), nonneg=True), cp.Variable()
    coupling = sum(t[k] * np.outer(row, row) for k, row in enumerate(rows))
    matrix = cp.bmat(
        [
            [rho * np.eye(n_in), -first.T @ coupling],
            [-coupling @ first, 2 * coupling - last.T @ last],
        ]
    )
    problem = cp.Problem(cp.Minimize(rho), [(matrix + matrix.T) / 2 >> 0])
    problem.solve(solver="CLARABEL")
    return math.sqrt(float(problem.value))
