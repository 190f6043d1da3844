"""GLipSDP's comparison on the 8x8 digits: convolutions written as matrices in one order of rows, read in another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from certlip import sdp
from certlip.claims import Finding, Proof
from certlip.claims._glipsdp import FOLDER, SOURCE, read_mat
from certlip.network import Activation, Array, Conv, Dense, Flatten, Layer, Network
from certlip.run import bound

SOURCE = f"{SOURCE}, Comparison"

NETWORKS, N_SEEDS = ("cnn2", "cnn3"), 5
SUMMARY = f"{FOLDER}/Comparison/exports/lipschitz_summary_all_models.mat"
FILES = [SUMMARY, *(f"{FOLDER}/Comparison/exports/{n}_seed{s}_weights.mat" for n in NETWORKS for s in range(N_SEEDS))]
OUTPUT = 7
"""The output that is compared, counted from 0."""


def check(folder: Path) -> list[Finding]:
    """For each architecture the network whose gradient is the furthest above the claimed bound."""
    claimed = read_mat(folder, SUMMARY)["all_results"]
    return [finding for name in NETWORKS for finding in _of(folder, name, claimed[name]["individual"])]


def _of(folder: Path, name: str, columns: Mapping[str, Array]) -> list[Finding]:
    files = [f"{FOLDER}/Comparison/exports/{name}_seed{seed}_weights.mat" for seed in range(N_SEEDS)]
    networks = [network_of(read_mat(folder, file)) for file in files]
    matrices = [mixed_up(network) for network in networks]
    lipsdp, seqlip = (np.asarray(columns[c], dtype=float)[:N_SEEDS] for c in ("Lip_LipSDP", "Lip_SepLip"))
    lower = _values(networks, "lower")
    upper = _values(networks, "lipsdp")
    distance = np.abs(np.divide([sdp.solve(m, rtol=1e-6).bound for m in matrices], lipsdp) - 1).max()
    seed = int(np.argmax(lower / lipsdp))
    as_taken = _values([_dense(m) for m in matrices], "lower")
    other = int(np.argmax(as_taken / seqlip))
    return [
        Finding(
            f"column LipSDP, {name}, seed {seed}; those beside it take the same matrices",
            float(lipsdp[seed]),
            float(lower[seed]),
            Proof.LOWER,
            f"Proved: a gradient of the network, above the claimed value on {(lower > lipsdp).sum()} of {N_SEEDS} of "
            "its seeds. With the rows of the last convolution ordered pixel by pixel, and the columns of the dense "
            f"layer channel by channel, LipSDP gives the claimed values up to {distance:.1g}",
            f"With both in one order LipSDP gives {upper.min():.4g} to {upper.max():.4g}, certified; the column of the "
            "convolutional form does not depend on the order",
        ),
        Finding(
            f"column SeqLip, {name}, seed {other}, of the matrices as they were taken",
            float(seqlip[other]),
            float(as_taken[other]),
            Proof.LOWER,
            f"Proved: a gradient of the network of these very matrices, above the claimed value on "
            f"{(as_taken > seqlip).sum()} of {N_SEEDS} of its seeds",
            "A greedy search gives an estimate; branch and bound over the gates a bound, where they are few",
        ),
    ]


def _values(networks: Sequence[Network], method: str) -> Array:
    return np.array([float(bound(network, method=method).value or np.nan) for network in networks])


def network_of(content: Mapping[str, Any]) -> Network:
    """Convolutions with a padding of one, and the row of the dense layer that is compared, in torch's order."""
    layers: list[Layer] = []
    for k in (1, 2):
        if (kernel := content.get(f"conv{k}_weight")) is not None:
            weight = np.asarray(kernel, dtype=float)
            weight = weight[:, :, None, :] if weight.ndim == 3 else weight  # MATLAB's reader drops an axis of one
            bias = np.asarray(content[f"conv{k}_bias"], dtype=float).ravel()
            layers += [Conv(f"conv{k}", weight.transpose(3, 2, 0, 1), bias, padding=(1, 1, 1, 1))]
            layers += [Activation(f"relu{k}", "relu")]
    last, bias = (np.asarray(content[f"fc1_{part}"], dtype=float) for part in ("weight", "bias"))
    dense = Dense("fc1", last.T[OUTPUT : OUTPUT + 1], bias.ravel()[OUTPUT : OUTPUT + 1])
    return Network((*layers, Flatten("flatten"), dense), (1, 8, 8))


def mixed_up(network: Network) -> list[Array]:
    """The matrices of a network of convolutions and a dense layer, the rows of the last convolution pixel by pixel,
    columns of pixels one after the other."""
    pairs = [(layer, shape) for layer, shape in network.with_shapes if isinstance(layer, Conv | Dense)]
    matrices = [layer.matrix(shape).toarray() for layer, shape in pairs]
    last, shape = pairs[-2]
    order = np.arange(len(matrices[-2])).reshape(last.output_shape(shape)).transpose().ravel()
    matrices[-2] = matrices[-2][order]
    return matrices


def _dense(matrices: Sequence[Array]) -> Network:
    """ReLU between matrices."""
    layers: list[Layer] = []
    for k, matrix in enumerate(matrices):
        layers += [Dense(f"dense{k}", matrix, np.zeros(len(matrix))), Activation(f"relu{k}", "relu")]
    return Network(tuple(layers[:-1]), (matrices[0].shape[1],))
