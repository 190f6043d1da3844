"""From margins at images, and constants of margins, to radii within which predictions are certified.

Where f_y - f_j is at least m > 0 at x and has the constant L, it is at least m - L |d| > 0 at x + d for |d| < m / L. So
the prediction y is the network's within the least of these quotients. All is rounded such that it holds of the exact
network: margins down, with the rounding of the forward pass counted (`certlip.proof.tangent.outputs_within`), and
quotients down, so that it holds at the radius itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from certlip.network import Array, Network
from certlip.proof.tangent import outputs_within

Labels = NDArray[np.int64]

AT_ONCE = 64
"""Images of one forward pass."""


def margins_at(network: Network, images: Array, labels: Labels) -> tuple[Array, Array]:
    """Below and above f_y - f_j of the exact network at each image, for its label y and each j: (n, n_outputs) each.

    images: (n, *input_shape), taken as exact. Where nothing can be said minus and plus infinity, for j = y twice plus.
    """
    parts = [slice(k, k + AT_ONCE) for k in range(0, len(images), AT_ONCE)]
    found = [_margins_at(network, images[part], labels[part]) for part in parts]
    below, above = zip(*found, strict=True)
    return np.concatenate(below), np.concatenate(above)


@np.errstate(invalid="ignore", over="ignore")
def _margins_at(network: Network, images: Array, labels: Labels) -> tuple[Array, Array]:
    outputs, errors = outputs_within(network, images)
    own = np.arange(len(labels)), labels
    difference = outputs[own][:, None] - outputs
    error = np.nextafter(errors[own][:, None] + errors, np.inf)
    below = np.nextafter(np.nextafter(difference, -np.inf) - error, -np.inf)
    above = np.nextafter(np.nextafter(difference, np.inf) + error, np.inf)
    known = np.isfinite(below) & np.isfinite(above)
    below, above = np.where(known, below, -np.inf), np.where(known, above, np.inf)
    below[own] = above[own] = np.inf
    return below, above


@np.errstate(divide="ignore", invalid="ignore", over="ignore")
def radii_of(below: Array, constants: Array) -> Array:
    """The radius within which each margin of each image is certified to be positive, rounded down; zero for none.

    below: of `margins_at`, (n, n_outputs); constants: L_yj for the label y of each image, of the same shape.
    """
    radii = np.where(constants > 0, np.nextafter(below / constants, 0.0), np.inf)
    return np.where(below > 0, radii, 0.0)


def is_open(radius: float, radii: Array, nearest: Array) -> NDArray[np.bool_]:
    """Of which images it is not settled whether the prediction can change within a radius: (n,).

    radii: of `radii_of`; nearest: (n,) distances of points where the network is wrong.
    """
    is_right = (radii > 0).all(axis=1)
    return is_right & (radii < radius).any(axis=1) & (nearest > radius)


def most_needed(
    wanted: Sequence[float], radii: Array, labels: Labels, nearest: Array, known: NDArray[np.bool_]
) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, whose constant may settle an image at a wanted radius, those that settle most first.

    known: pairs whose constant will not become smaller, (n_outputs, n_outputs). An image that one of these keeps from
    being certified needs no others; one that m pairs keep from it counts for each by 1 / m.
    """
    scores = np.zeros(known.shape)
    for radius in wanted:
        blocking = radii < radius
        left = is_open(radius, radii, nearest) & ~(blocking & known[labels]).any(axis=1)
        np.add.at(scores, labels[left], blocking[left] / blocking[left].sum(axis=1, keepdims=True))
    scores = np.triu(scores + scores.T)
    order = np.argsort(-scores, axis=None, kind="stable")[: np.count_nonzero(scores)]
    return [(int(i), int(j)) for i, j in zip(*np.unravel_index(order, scores.shape), strict=True)]
