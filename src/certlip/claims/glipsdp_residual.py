"""GLipSDP's bound of a residual network of 18 dense layers, below the dual of every diagonal multiplier."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from certlip.claims import Finding, Proof
from certlip.claims._glipsdp import FOLDER, SOURCE, found, read_mat
from certlip.network import Activation, Dense, Layer, Network, Sum
from certlip.run import bound

SOURCE = f"{SOURCE}, Versatility"

RESULTS, WEIGHTS = (f"{FOLDER}/Versatility/{f}" for f in ("results/mnist_resnet_fc.mat", "models/weights_pt/FC-R18.pt"))
FILES = [RESULTS, WEIGHTS]
N_BLOCKS = 8


def check(folder: Path) -> list[Finding]:
    """784-64, eight blocks relu(W2 relu(W1 x) + x) of width 64, 64-10."""
    from certlip.pytorch.weights import load_weights

    claimed = float(read_mat(folder, RESULTS)["Lip_GLipSDP"])
    state = {key: value.double().numpy() for key, value in load_weights(found(folder, WEIGHTS)).items()}
    network = residual_network(state)
    record, lower = bound(network, method="lipsdp"), bound(network, method="lower")
    value, gap = float(record.value or np.inf), float(record.gap or 0.0)
    return [
        Finding(
            "FC-R18, a bound by multipliers of single neurons",
            claimed,
            value / (1 + gap),
            Proof.DUAL,
            f"Proved: the dual value of LipSDP-Neuron, below which no diagonal multipliers go. Largest gradient found "
            f"{float(lower.value or 0.0):.4g}: the claimed value may be at or above the constant all the same",
            f"LipSDP-Neuron on the network as it is gives {value:.5g}, certified",
        )
    ]


def residual_network(state: Mapping[str, Any]) -> Network:
    """From the state_dict of the source."""
    layers: list[Layer] = []
    sources: list[tuple[int, ...]] = []

    def add(layer: Layer, *of: int) -> int:
        layers.append(layer)
        sources.append(of)
        return len(layers)

    def dense(key: str, of: int) -> int:
        return add(Dense(key, state[f"{key}.weight"], state[f"{key}.bias"]), of)

    x = add(Activation("input_layer.relu", "relu"), dense("input_layer", 0))
    for k in range(N_BLOCKS):
        inner = add(Activation(f"blocks.{k}.relu1", "relu"), dense(f"blocks.{k}.fc1", x))
        ones = np.array(1.0), np.array(1.0)
        joined = add(Sum(f"blocks.{k}.add", ones, np.array(0.0)), dense(f"blocks.{k}.fc2", inner), x)
        x = add(Activation(f"blocks.{k}.relu2", "relu"), joined)
    dense("output_layer", x)
    return Network(tuple(layers), (784,), tuple(sources))
