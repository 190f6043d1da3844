"""GLipSDP's comparison on the 8x8 digits: convolutions written as matrices in one order of rows, read in another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from certlip import sdp
from certlip.base.errors import NoData
from certlip.claims import Finding, Proof
from certlip.network import Array, Conv, Dense, Network
from certlip.run import bound

SOURCE = "GLipSDP (github.com/ppauli/GLipSDP, Comparison), column LipSDP; the columns beside it take the same matrices"

CLAIMED = {
    "cnn2": (5.111094573546274, 4.240745742678235, 4.7016256754609635, 5.050018813571654, 4.785637897994939),
    "cnn3": (11.200525113476017, 8.048331523089642, 10.301529344988916, 11.82486654214122, 11.184980815277168),
}
"""By seed, from lipschitz_summary_all_models.mat."""
FILES = [f"glipsdp-digits/{name}-s{seed}.npz" for name, values in CLAIMED.items() for seed in range(len(values))]


def check(folder: Path) -> list[Finding]:
    """For each architecture the network whose gradient is the furthest above the claimed bound."""
    return [_of(folder, name, claimed) for name, claimed in CLAIMED.items()]


def _of(folder: Path, name: str, claimed: Sequence[float]) -> Finding:
    networks = [_load(folder / f"glipsdp-digits/{name}-s{seed}.npz") for seed in range(len(claimed))]
    lower = [float(bound(network, method="lower").value or 0.0) for network in networks]
    upper = [float(bound(network, method="lipsdp").value or np.inf) for network in networks]
    mixed = [sdp.solve(mixed_up(network), rtol=1e-6).bound for network in networks]
    distance = max(abs(m / c - 1) for m, c in zip(mixed, claimed, strict=True))
    n_above = sum(low > c for low, c in zip(lower, claimed, strict=True))
    seed = int(np.argmax(np.divide(lower, claimed)))
    return Finding(
        f"LipSDP of {name}, seed {seed}",
        claimed[seed],
        lower[seed],
        Proof.LOWER,
        f"Proved: a gradient of the network, above the claimed value on {n_above} of {len(claimed)} of its seeds. With "
        "the rows of the last convolution ordered pixel by pixel, and the columns of the dense layer channel by "
        f"channel, LipSDP gives the claimed values up to {distance:.1g}",
        f"With both in one order LipSDP gives {min(upper):.4g} to {max(upper):.4g}, certified",
    )


def mixed_up(network: Network) -> list[Array]:
    """The matrices of a network of convolutions and a dense layer, the rows of the last convolution pixel by pixel."""
    pairs = [(layer, shape) for layer, shape in network.with_shapes if isinstance(layer, Conv | Dense)]
    matrices = [layer.matrix(shape).toarray() for layer, shape in pairs]
    last, shape = pairs[-2]
    channels = last.output_shape(shape)[0]
    order = np.arange(len(matrices[-2])).reshape(channels, -1).T.ravel()
    matrices[-2] = matrices[-2][order]
    return matrices


def _load(path: Path) -> Network:
    if not path.exists():
        raise NoData(
            f"{path} is not there: the network that the source's weights make, exported by certlip", [str(path)]
        )
    return Network.load(path)
