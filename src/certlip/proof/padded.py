"""A convolution behind a padding that copies pixels, circular, reflected or replicated, as one linear map.

Apart, the padding alone has the root of the most copies of a pixel as its constant, up to 2. Together they need not pay
it: behind circular padding the convolution is the circular one on the map itself, whose norm is the largest over the
frequencies of that torus, or some rows of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from certlip.base.rounding import gamma
from certlip.network import Array, Conv, Gather, Layer, Network, Pair, Shape
from certlip.network.chain import MAX_ENTRIES

DENSE_WORK = 4e9
"""Multiplications in the Gram matrix of a convolution's own matrix up to which it is used: about a second."""


def is_small(n_in: int, n_out: int) -> bool:
    """Whether a matrix of so many columns and rows is written out to find its norm."""
    return n_in * n_out <= MAX_ENTRIES and n_in * n_out * min(n_in, n_out) <= DENSE_WORK


@dataclass(frozen=True, eq=False)
class Padded:
    """conv(gather(x)), its bias left out; a `Gather` of a map that copies entries of it."""

    gather: Gather
    conv: Conv

    @property
    def name(self) -> str:
        return self.conv.name

    def is_small(self, shape: Shape) -> bool:
        return is_small(math.prod(shape), math.prod(self.conv.output_shape(self.gather.index.shape)))

    def circular(self, shape: Shape) -> tuple[Conv, Pair] | None:
        """A convolution and the torus on which it is this map, or has it among its rows; None where there is none.

        The outputs must lie at different pixels of the torus. Where a stride does not divide its side, they are some of
        those without stride.
        """
        index, sides = self.gather.index, (shape[-2], shape[-1])
        if len(shape) != 3 or any(self.conv.padding) or not _is_periodic(index, shape):
            return None
        n_out = self.conv.output_shape(index.shape)[1:]
        if any((n - 1) * s >= side for n, s, side in zip(n_out, self.conv.stride, sides, strict=True)):
            return None
        row, column = (s if side % s == 0 else 1 for s, side in zip(self.conv.stride, sides, strict=True))
        return replace(self.conv, stride=(row, column)), sides

    def matrix(self, shape: Shape) -> tuple[Array, Array]:
        """Of flattened maps, and how far each entry is at most from the exact one: weights at copies of a pixel are
        added up."""
        conv, gather = self.conv.matrix(self.gather.index.shape), self.gather.matrix(shape)
        sizes = (abs(conv) @ gather).toarray()
        n_terms = ((conv != 0).astype(float) @ gather).toarray()
        return (conv @ gather).toarray(), np.where(n_terms > 1, sizes * gamma(int(n_terms.max(initial=0.0)) + 2), 0.0)


Step = tuple[Layer | Padded, Shape]
"""What has a constant of its own, with the shape of the value that it takes."""


def steps(network: Network) -> list[Step | None]:
    """One a layer: the layer itself; for a convolution that alone reads a padding of copies, both; for that padding,
    which is counted there, None."""
    found: list[Step | None] = list(network.with_shapes)
    for k, (layer, (source, *_)) in enumerate(zip(network.layers, network.sources, strict=True)):
        before = network.layers[source - 1] if source else None
        if not (isinstance(layer, Conv) and isinstance(before, Gather)) or before.most_copies == 1:
            continue
        both, shape = Padded(before, layer), network.shapes[network.sources[source - 1][0]]
        alone = sum(of.count(source) for of in network.sources) == 1
        if alone and (both.is_small(shape) or both.circular(shape)):
            found[source - 1], found[k] = None, (both, shape)
    return found


def _is_periodic(index: Array, shape: Shape) -> bool:
    """Whether the index repeats the map (channels, rows, columns) along its rows and columns, from any pixel on."""
    row, column = divmod(int(index[0, 0, 0]), shape[2])
    rows, columns = (row + np.arange(index.shape[1])) % shape[1], (column + np.arange(index.shape[2])) % shape[2]
    order = np.arange(float(math.prod(shape))).reshape(shape)
    return np.array_equal(index, order[:, rows[:, None], columns])
