"""From the bounds of sub-blocks to the bound of a segment (Sulehman & Mu 2024, arXiv 2403.18613, lemma behind eq. 18).

Patch j of the output is computed by f_j from its receptive field RF_j, and |f_j(x) - f_j(y)|^2 <= rho_j |x - y|^2 on
it. Summing over patches that tile the output map:

    sum:    L^2 = sum_j rho_j                                      (the paper's)
    cover:  L^2 = max over input pixels p of sum_{j: p in RF_j} rho_j      never worse, same programs

With |f_j(x) - f_j(y)|^2 <= sum_p d_j(p) |x_p - y_p|^2, a metric d_j >= 0 instead of one rho_j:

    metric: L^2 = max over input pixels and channels p of sum_{j: p in RF_j} d_j(p)

which merges ``weighted`` (d_j proportional to 1 / cover) and ``folded`` (d_j optimal, all patches jointly).

And from constants of layers to that of a network, along its graph (`along`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certlip.base.rounding import add_up, gamma, hypot_up, multiply_up, sqrt_up, up
from certlip.network import Array, Maximum, Network, Shape, Sum
from certlip.network.window import Window


def along(network: Network, constants: Sequence[float]) -> float:
    """L of the output, rounded up: L_k = c_k sum_i |f_ki| L_i over the sources i of layer k, whose constant is c_k.

    f_ki: the largest factor of a `Sum`, else one; of a `Maximum` L_k^2 = sum_i L_i^2. Virmaux & Scaman 2018 (arXiv
    1805.10965), algorithm 1; in a chain the product of the constants. constants: one a layer, in order.
    """
    reached = [1.0]
    for layer, sources, constant in zip(network.layers, network.sources, constants, strict=True):
        factors = layer.factors if isinstance(layer, Sum) else [np.ones(1)] * len(sources)
        largest = [float(np.abs(factor).max()) for factor in factors]
        terms = (multiply_up([f, reached[s]]) for f, s in zip(largest, sources, strict=True))
        total = hypot_up(terms) if isinstance(layer, Maximum) else add_up(terms)
        reached.append(multiply_up([constant, total]))
    return reached[-1]


def merge_blocks(total: str, rhos: Sequence[float], fields: Sequence[Window | None], shape: Shape) -> float:
    """Certified constant of a segment, rounded up.

    total: one of `TOTALS`; rhos: verified squared constant of each patch; fields: input window of each patch, None for
    the whole input; shape: of the segment's input.
    """
    windows = [field for field in fields if field is not None]
    if len(shape) < 3 or len(windows) < len(fields):
        return sqrt_up(add_up(rhos))
    return sqrt_up(min(add_up(rhos), TOTALS[total](rhos, windows, shape)))


def _over_cover(rhos: Sequence[float], windows: Sequence[Window], shape: Shape) -> float:
    load = np.zeros(shape[1:])
    for rho, window in zip(rhos, windows, strict=True):
        load[window.slices] += rho
    return up(float(load.max()) * (1 + gamma(len(rhos) + 1)))


TOTALS: dict[str, Callable[[Sequence[float], Sequence[Window], Shape], float]] = {
    "sum": lambda rhos, windows, shape: add_up(rhos),
    "cover": _over_cover,
}
"""Rule of a `SegmentProof` -> its squared constant, rounded up, by those of the patches and the windows they read."""


def hand_on(metrics: Sequence[Array], fields: Sequence[Window | None], scale: float, shape: Shape) -> Array:
    """A segment's merged metric: those of its patches added up at each input entry, times scale^2, rounded up.

    metrics: verified d_j >= 0, flattened; fields: input window of each patch, None for the whole input; scale: of the
    segment's `Chain`; shape: of the segment's input, and of the result. The segment's constant is the root of its
    largest entry, and |f(x) - f(y)|^2 is at most its squared distance of x and y, which the segment before may take
    as output metric.
    """
    load = np.zeros(shape)
    for metric, field in zip(metrics, fields, strict=True):
        target = load if field is None else load[(slice(None), *field.slices)]
        target += metric.reshape(target.shape)
    return round_up(load, len(metrics), scale)


def round_up(load: Array, n_patches: int, scale: float) -> Array:
    """A sum of `n_patches` metrics, added one by one, times scale^2, rounded up."""
    return np.nextafter(load * ((1 + gamma(n_patches + 4)) * multiply_up([scale, scale])), math.inf)


def on_window(values: NDArray[Any], window: Window | None) -> NDArray[Any]:
    """One window of a map (channels, rows, columns), flattened; the whole of anything for None."""
    return (values if window is None else values[(slice(None), *window.slices)]).ravel()
