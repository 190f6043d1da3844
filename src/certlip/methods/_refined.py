"""Layer constants that are there from the start, and become sharper one after the other.

||W|| <= ||W||_F for a dense layer. A convolution is at each frequency a sum of its k_h k_w taps, each with a phase, so
its norm is at most sqrt(k_h k_w) times the Frobenius norm of the kernel. Neither needs an iteration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from certlip.network import LINEAR, Layer, Network, Shape
from certlip.proof import norms
from certlip.proof.matrix_norm import frobenius_norm

HEADROOM = 1e-6
"""Room above a Frobenius norm for its proof, which is of the spectral norm: they are the same at rank one."""

Constant = Callable[[Layer, Shape], float]


def quick_constant(layer: Layer, shape: Shape) -> float:
    """A certified constant of a layer within the time of reading its weights; raises UnsupportedLayer by name."""
    if not isinstance(layer, LINEAR):
        return norms.layer_constant(layer, shape)
    n_taps = math.prod(layer.weight.shape[2:])
    return math.sqrt(n_taps) * frobenius_norm(layer.weight) * (1 + HEADROOM)


def refined_constants(
    networks: Sequence[Network], constant: Constant = norms.layer_constant
) -> Iterator[tuple[list[list[float]], list[str]]]:
    """Certified constants of the layers of each network, and the names of those that are quick ones still.

    First all quick ones, then one layer more by `constant` each time, those that take longest last.
    """
    layers = [network.with_shapes for network in networks]
    found = [[quick_constant(*pair) for pair in pairs] for pairs in layers]
    slow = [(n, i) for n, pairs in enumerate(layers) for i, (layer, _) in enumerate(pairs) if _iterates(layer)]
    slow.sort(key=lambda place: _work(*layers[place[0]][place[1]]))
    for done, (n, i) in enumerate(slow):
        yield found, [layers[m][j][0].name for m, j in sorted(slow[done:])]
        found[n][i] = constant(*layers[n][i])
    yield found, []


def quick_ones(names: Sequence[str]) -> str:
    """What to say of a product with these layers' quick constants."""
    return f"Frobenius norms stand for {', '.join(names)}" if names else ""


def _iterates(layer: Layer) -> bool:
    return isinstance(layer, LINEAR)


def _work(layer: Layer, shape: Shape) -> float:
    """Orders layers by the time that their constants take."""
    return math.prod(shape) * math.prod(layer.weight.shape) if isinstance(layer, LINEAR) else 0.0
