"""Layer constants that are there from the start, and become sharper one after the other.

||W|| <= ||W||_F for a dense layer. A convolution is at each frequency a sum of its k_h k_w taps, each with a phase, so
its norm is at most sqrt(k_h k_w) times the Frobenius norm of the kernel. Neither needs an iteration.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from certlip.network import LINEAR, Layer, Network, Shape
from certlip.network.chain import frobenius_norm
from certlip.proof import norms, padded
from certlip.proof.padded import Padded

HEADROOM = 1e-6
"""Room above a Frobenius norm for its proof, which is of the spectral norm: they are the same at rank one."""

Constant = Callable[[Layer | Padded, Shape], float]


def quick_constant(layer: Layer | Padded, shape: Shape) -> float:
    """A certified constant of a layer within the time of reading its weights; raises UnsupportedLayer by name."""
    if isinstance(layer, Padded):
        copies = 1.0 if layer.circular(shape) else norms.layer_constant(layer.gather, shape)
        return copies * quick_constant(layer.conv, layer.gather.index.shape)
    if not isinstance(layer, LINEAR):
        return norms.layer_constant(layer, shape)
    n_taps = math.prod(layer.weight.shape[2:])
    return math.sqrt(n_taps) * frobenius_norm(layer.weight) * (1 + HEADROOM)


def refined_constants(
    networks: Sequence[Network], constant: Constant = norms.layer_constant
) -> Iterator[tuple[list[list[float]], list[str]]]:
    """Certified constants of the layers of each network, a padding counted with the convolution behind it
    (`certlip.proof.padded`), and the names of those that are quick ones still.

    First all quick ones, then one layer more by `constant` each time, those that take longest last.
    """
    steps = [padded.steps(network) for network in networks]
    found = [[1.0 if step is None else quick_constant(*step) for step in of_network] for of_network in steps]
    places = [(n, i, step) for n, of_network in enumerate(steps) for i, step in enumerate(of_network) if step]
    slow = sorted((place for place in places if _iterates(place[2][0])), key=lambda place: _work(*place[2]))
    for done, (n, i, step) in enumerate(slow):
        yield found, [layer.name for _, _, (layer, _) in sorted(slow[done:], key=lambda place: place[:2])]
        found[n][i] = constant(*step)
    yield found, []


def quick_ones(names: Sequence[str]) -> str:
    """What to say of a product with these layers' quick constants."""
    return f"Frobenius norms stand for {', '.join(names)}" if names else ""


def _iterates(layer: Layer | Padded) -> bool:
    return isinstance(layer, (*LINEAR, Padded))


def _work(layer: Layer | Padded, shape: Shape) -> float:
    """Orders layers by the time that their constants take."""
    linear = layer.conv if isinstance(layer, Padded) else layer
    return math.prod(shape) * math.prod(linear.weight.shape) if isinstance(linear, LINEAR) else 0.0
