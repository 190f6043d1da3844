"""SeqLip by greedy ascent, printed in columns of upper bounds."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np

from certlip.claims import Finding, Proof
from certlip.network import Activation, Array, Dense, Network
from certlip.proof.tangent import lower_at
from certlip.run import bound

SOURCE = "Virmaux & Scaman 2018 (arXiv 1805.10965), whose authors call it an estimate, in tables of upper bounds"

N_HIDDEN, N_OUTPUTS = 6, 2
N_NETWORKS = 12


def check(folder: Path) -> list[Finding]:
    """Of some networks with random weights the one where greedy ascent is lowest, in units of a gradient."""
    found = []
    for seed in range(N_NETWORKS):
        network = random_network(seed)
        greedy, lower = float(bound(network, method="seqlip").value or 0.0), largest_gradient(network)
        found.append((greedy / lower, greedy, lower, seed))
    n_below = sum(quotient < 1 for quotient, *_ in found)
    _, greedy, lower, seed = min(found)
    return [
        Finding(
            f"ReLU networks {N_HIDDEN}-{N_HIDDEN}-{N_OUTPUTS}, random weights, the worst of {N_NETWORKS} (seed {seed})",
            greedy,
            lower,
            Proof.LOWER,
            f"Claimed: greedy ascent over the gates. A gradient that is attained is above it on {n_below} of the "
            f"{N_NETWORKS}",
            "Branch and bound over the gates is a bound (method seqlip, mode exact), up to some forty neurons a layer",
        )
    ]


def random_network(seed: int) -> Network:
    """As many hidden neurons as inputs, without biases, so that each pattern of the neurons has its inputs."""
    rng = np.random.default_rng(seed)
    first, last = rng.standard_normal((N_HIDDEN, N_HIDDEN)), rng.standard_normal((N_OUTPUTS, N_HIDDEN))
    layers = (
        Dense("first", first, np.zeros(N_HIDDEN)),
        Activation("act", "relu"),
        Dense("last", last, np.zeros(N_OUTPUTS)),
    )
    return Network(layers, (N_HIDDEN,))


def largest_gradient(network: Network) -> float:
    """Over all patterns, attained at an input that has it, rounded down."""
    first, last = (layer.weight for layer in network.layers if isinstance(layer, Dense))
    patterns = (np.array(p, dtype=np.float64) for p in itertools.product((0, 1), repeat=N_HIDDEN))
    best = max(patterns, key=lambda pattern: np.linalg.norm((last * pattern) @ first, 2))
    direction: Array = np.linalg.svd((last * best) @ first)[2][0]
    point: Array = np.linalg.solve(first, 2 * best - 1).astype(np.float64)
    return lower_at(network, point, direction)
