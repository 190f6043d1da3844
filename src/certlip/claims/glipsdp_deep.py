"""GLipSDP's deep dense networks, whose bounds are what a solver's tolerance makes of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from certlip.claims import Finding, Proof
from certlip.claims._glipsdp import FOLDER, SOURCE, read_mat
from certlip.network import Activation, Dense, Layer, Network
from certlip.run import bound

SOURCE = f"{SOURCE}, Scalability"

WIDTH, DEPTH = 16, 64
RESULTS = f"{FOLDER}/Scalability/results/results_all_FC_trained.mat"
WEIGHTS = f"{FOLDER}/Scalability/exported_mnist_models/mlp_L{DEPTH + 1}_W{WIDTH}.mat"
FILES = [RESULTS, WEIGHTS]


def check(folder: Path) -> list[Finding]:
    """The first 64 square matrices of a trained network, ReLU between, as the source takes them."""
    results, weights = read_mat(folder, RESULTS), read_mat(folder, WEIGHTS)["params"]
    place = np.flatnonzero(results["c_vec"] == WIDTH)[0], np.flatnonzero(results["depth"] == DEPTH)[0]
    layers: list[Layer] = []
    for k in range(1, DEPTH + 1):
        weight = np.asarray(weights[f"linear_{k}_weight"], dtype=float).T
        layers += [Dense(f"linear{k}", weight, np.zeros(len(weight))), Activation(f"relu{k}", "relu")]
    network = Network(tuple(layers[:-1]), (WIDTH,))
    found = bound(network, method="lipsdp")
    closed = float(bound(network, method="eclipse_fast").value or np.nan)
    return [
        Finding(
            f"column {name}, width {WIDTH}, depth {DEPTH}",
            float(results[f"L_{name}_mat"][place]),
            float(found.value or np.inf),
            Proof.UPPER,
            "Proved: LipSDP-Neuron, which column LipSDP is too, and column GLipSDP never below. ECLipsE-Fast's closed "
            f"form, never below LipSDP-Neuron either, gives {closed:.3g}",
            "Layers scaled to norms near one before the program is solved: the optimum is far below the solver's "
            "tolerance in the given units",
        )
        for name in ("LipSDP", "GLipSDP")
    ]
