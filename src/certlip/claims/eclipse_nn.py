"""ECLipsE-Fast as the package eclipse-nn computed it before version 0.1.7."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from certlip.claims import Finding, Proof
from certlip.methods.eclipse_fast import largest_eigenvalue, schur_complement, seen_through
from certlip.network import Activation, Array, Dense, Network
from certlip.run import bound

SOURCE = "eclipse-nn 0.1.6 (pypi.org/project/eclipse-nn), ECLipsE_Fast; mended in 0.1.7"

WIDTHS = (4, 6, 6, 1)
FIRST = 3.0
"""Factor of the first layer's weights."""


def check(folder: Path) -> list[Finding]:
    """A network of two hidden layers, whose first weights do not enter the value."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape) for shape in zip(WIDTHS[1:], WIDTHS[:-1], strict=True)]
    weights[0] *= FIRST
    dense = [Dense(f"dense{i}", w, np.zeros(len(w))) for i, w in enumerate(weights)]
    act = [Activation(f"act{i}", "relu") for i in range(2)]
    network = Network((dense[0], act[0], dense[1], act[1], dense[2]), WIDTHS[:1])
    ours = float(bound(network, method="eclipse_fast").value or math.inf)
    return [
        Finding(
            f"a ReLU network {'-'.join(map(str, WIDTHS))} with random weights",
            recursion(weights, restarts_at=1),
            float(bound(network, method="lower").value or 0.0),
            Proof.LOWER,
            "Claimed: the recursion with the identity in place of X_1, so that the first layer is left out. Proved: a "
            "gradient",
            f"With X_1 the recursion gives {recursion(weights):.5g}, and its multipliers {ours:.5g}, certified",
        )
    ]


def recursion(weights: Sequence[Array], restarts_at: int | None = None) -> float:
    """ECLipsE-Fast of ReLU layers; restarts_at: hidden layer, counted from 0, that takes the identity instead of X."""
    metric = np.eye(weights[0].shape[1])
    for i, weight in enumerate(weights[:-1]):
        if i == restarts_at:
            metric = np.eye(len(metric))
        s = seen_through(weight, metric)
        metric = schur_complement(s, np.full(len(s), 2 / largest_eigenvalue(s)), (0.0, 1.0))
    return math.sqrt(largest_eigenvalue(seen_through(weights[-1], metric)))
