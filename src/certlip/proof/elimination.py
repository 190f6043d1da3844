"""The first steps of a Cholesky factorisation: diagonal blocks that do not touch, eliminated with sparse couplings.

The LMI of a network with convolutions has diagonal matrices on its diagonal and couplings with few nonzeros.
Eliminating every other block takes products of sparse matrices only, and leaves about half the order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from certlip.network import Array
from certlip.proof.coupling import ALL, Coupling, Places

SPARSE = 0.5
"""A weight with a larger share of nonzeros is multiplied at once."""
SLAB = 128
"""Neurons of a layer with sparse weights that are eliminated at once."""

Mask = NDArray[np.bool_]
Order = NDArray[np.intp] | None
"""A permutation of a layer, None for as it is."""


@np.errstate(over="ignore", invalid="ignore")  # entries that are not finite end no factorisation
def eliminate(diagonal: Sequence[Array], couplings: Sequence[Coupling]) -> tuple[list[Array], list[Array]] | None:
    """The block tridiagonal matrix that is left to factorise; None for a pivot that is not positive.

    diagonal, couplings: as of `Lmi.extended`, two blocks or more; matrices among them are overwritten. Returns the
    blocks on the diagonal, vectors where they are diagonal matrices, and those below.
    """
    vectors = [block.ndim == 1 for block in diagonal]
    _, kept = cheapest([len(block) for block in diagonal], vectors)
    masks = [_mask(coupling.weight) for coupling in couplings]
    orders = _orders(masks, vectors)
    left = [block if order is None else block[order] for block, order in zip(diagonal, orders, strict=True)]
    below = {j: couplings[i].entries(_cut(orders[j]), _cut(orders[i])) for i, j in pairwise(kept) if j == i + 1}
    for i in sorted(set(range(len(left))) - set(kept)):
        if not (diagonal[i] > 0).all():
            return None
        row = _row_of_factor(i, np.sqrt(diagonal[i]), couplings, masks, orders)
        is_sparse = any(block.mask is not None for block in row.values())
        _subtract_square(row, _slabs(orders[i], len(diagonal[i]), is_sparse), left, below)
    return [left[i] for i in kept], [below[j] for j in kept[1:]]


def _subtract_square(
    row: dict[int, _FactorBlock], slabs: Iterable[Places], left: list[Array], below: dict[int, Array]
) -> None:
    """Take R'R off what is left, R a row of the factor, a slab of its neurons at a time."""
    for j in row:
        left[j] = np.diag(left[j]) if left[j].ndim == 1 else left[j]
    if len(row) == 2:
        before, after = row
        below[after] = np.zeros((len(left[after]), len(left[before])))
    for slab in slabs:
        parts = {j: block.part(slab) for j, block in row.items()}
        for j, (window, part) in parts.items():
            left[j][window, window] -= part.T @ part
        if len(parts) == 2:
            (columns, first), (rows, second) = parts.values()
            below[after][rows, columns] -= second.T @ first


class _FactorBlock(NamedTuple):
    """A block in a row of the factor: of neurons that are eliminated, and those of a layer beside theirs.

    mask: where it is not zero, None if it is dense; order: of the layer beside; is_after: whether that comes after, so
    that the coupling is of its neurons and the eliminated ones, not of the eliminated ones and its neurons.
    """

    coupling: Coupling
    mask: Mask | None
    order: Order
    is_after: bool

    def part(self, slab: Places) -> tuple[slice, Array]:
        """Of a slab of eliminated neurons: the range outside of which there are zeros, and the entries in it."""
        window = ALL if self.mask is None else _window(self.mask, slab, self.order)
        places = _cut(self.order, window)
        if self.is_after:
            return window, self.coupling.entries(places, slab).T
        return window, self.coupling.entries(slab, places)


def _row_of_factor(
    i: int, root: Array, couplings: Sequence[Coupling], masks: Sequence[Mask | None], orders: Sequence[Order]
) -> dict[int, _FactorBlock]:
    """Row i of the factor, whose diagonal block is `root`, by the layers before and after it."""
    found = {}
    if i > 0:
        coupling = couplings[i - 1]
        found[i - 1] = _FactorBlock(replace(coupling, rows=coupling.rows / root), masks[i - 1], orders[i - 1], False)
    if i < len(couplings):
        coupling, mask = couplings[i], masks[i]
        scaled = replace(coupling, columns=coupling.columns / root)
        found[i + 1] = _FactorBlock(scaled, None if mask is None else mask.T, orders[i + 1], True)
    return found


def cheapest(sizes: Sequence[int], vectors: Sequence[bool]) -> tuple[float, list[int]]:
    """The fewest multiplications of a factorisation, and the blocks it keeps.

    No two of the others are neighbours, and all of them are diagonal matrices.
    Dynamic programming over the next block kept, products counted as dense.
    """
    n = [0, *sizes, 0]
    costs = [n[i] * (n[i - 1] + n[i + 1]) ** 2 / 2 if v else np.inf for i, v in enumerate(vectors, start=1)]
    # for each block, and the end, the cheapest way to treat all before if it is kept: the cost, and the blocks kept
    ways: list[tuple[float, list[int]]] = []
    for j, size in enumerate([*sizes, 0]):
        options: list[tuple[float, list[int]]] = [(sum(costs[:j]), [])] if j < 2 else []
        for i in range(max(0, j - 2), j):
            cost, before = ways[i]
            join = sizes[i] ** 3 / 6 + sizes[i] * size * (sizes[i] + size) / 2
            options.append((cost + join + sum(costs[i + 1 : j]), [*before, i]))
        ways.append(min(options))
    return ways[-1]


def _mask(weight: Array) -> Mask | None:
    """Where a sparse weight is not zero; None for a dense one, going by some of its rows."""
    sample = weight[::8] != 0
    return None if np.count_nonzero(sample) >= SPARSE * sample.size else weight != 0


def _orders(masks: Sequence[Mask | None], vectors: Sequence[bool]) -> list[Order]:
    """Each layer sorted by the first neuron before that it reads, the input by the first neuron that reads it.

    The channels of a convolution at one place of its map come to stand together, so slabs touch few neighbours.
    """
    touching = [None if mask is None else mask.T for mask in masks[:1]] + list(masks)
    return [
        np.argsort(mask.argmax(axis=1), kind="stable") if vector and mask is not None else None
        for mask, vector in zip(touching, vectors, strict=True)
    ]


def _cut(order: Order, part: slice = ALL) -> Places:
    """The neurons in a part of an order."""
    return part if order is None else order[part]


def _slabs(order: Order, n: int, is_sparse: bool) -> Iterator[Places]:
    """The neurons of a layer of n, in order, a slab at a time."""
    if not is_sparse:
        yield _cut(order)
        return
    for begin in range(0, n, SLAB):
        yield _cut(order, slice(begin, begin + SLAB))


def _window(mask: Mask, slab: Places, order: Order) -> slice:
    """The range of neighbours, in their order, outside of which a slab has zeros only."""
    touched: Mask = np.any(mask[slab], axis=0)
    places = np.flatnonzero(touched if order is None else touched[order])
    return slice(places[0], places[-1] + 1) if len(places) else slice(0, 0)
