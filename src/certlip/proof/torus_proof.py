"""The proof on the torus: P(rho, t) >= 0, frequency by frequency, with rounding included.

In the variables x, z_1, ..., z_K of `certlip.proof.torus_relaxation`, with slopes in [m - h, m + h], which holds 0, and
one multiplier t >= 0 a channel (T_k = diag(t) at every pixel),

    P = rho |x|^2 + sum_k (z_k' T_k z_k - 2 m z_k' T_k y_k - (h^2 - m^2) y_k' T_k y_k) - |C z|^2  >=  0

implies |C z|^2 <= rho |x|^2 for increments. What is subtracted is the Schur complement of one more block: w' S w + 2 w'
S y is least, -y' S y, at w = -y. So P is that of a matrix in which each block, of a node or of such a w, has a diagonal
and is coupled to the nodes that it reads, and P >= 0 where that matrix is.

All is circular: the discrete Fourier transform, unitary, takes the matrix apart. Of a frequency of the coarsest map,
its aliases on finer maps belong together (a coset): a convolution of stride s reads s frequencies of one alias and is
divided by sqrt(s), along rows and columns each. Finer blocks are eliminated first; they are diagonal in their own
frequencies, so that eliminating one of them is a Cholesky factorisation of c x c for each alias. The mean reads
frequency 0 alone.

A coset whose factorisation of D E D - c I runs to its end is proved (S. M. Rump, Verification of positive definiteness,
BIT 46, 2006): D is a diagonal of powers of two, c covers the rounding in forming E and the factorisation's own.
Conjugate frequencies have conjugate matrices: one of each pair is enough.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from certlip.base.rounding import UNIT, gamma
from certlip.network import Array, Pair
from certlip.proof.cholesky import backward_error
from certlip.proof.torus import frequencies
from certlip.proof.torus_relaxation import POINT, Edge, Node, Relaxation

Complex = NDArray[np.complex128]
Mask = NDArray[np.bool_]
Cosets = NDArray[np.intp]
"""Frequencies of the coarsest map, (n, 2)."""

PANEL = 32
"""Columns factorised at once."""
CHUNK = 2**23
"""Complex entries of the blocks held at once, but for those of a single coset."""
RANGE = 1e200
"""Multipliers outside of 1 / RANGE to RANGE prove nothing."""


@dataclass(frozen=True, eq=False)
class Block:
    """A diagonal (c,) on a map or point of this resolution, and where it is coupled to earlier nodes.

    factor: what the edges are multiplied with, by row (c,); node: which one it is, None for what only subtracts.
    """

    level: Pair
    diagonal: Array
    factor: Array
    edges: tuple[Edge, ...] = ()
    node: int | None = None


class Inequality:
    """The matrix of a relaxation at rho and multipliers, t_k of shape (c_k,) for each node after the input."""

    def __init__(self, relaxation: Relaxation, rho: float, multipliers: Sequence[Array]) -> None:
        self.relaxation = relaxation
        blocks = [Block((1, 1), np.full(relaxation.nodes[0].channels, rho), np.zeros(0), node=0)]
        for k, (node, t) in enumerate(zip(relaxation.nodes[1:], multipliers, strict=True), start=1):
            if node.h > abs(node.m):
                size = self._subtracted(node, t)
                blocks.append(Block(node.before, size, size, node.edges))
            blocks.append(Block(node.after, t, -node.m * t, node.edges if node.m else (), k))
        ones = np.ones(relaxation.n_outputs)
        blocks.append(Block(relaxation.level, ones, ones, relaxation.output))
        order = sorted(range(len(blocks)), key=lambda i: _coarseness(blocks[i].level))
        self.blocks = [blocks[i] for i in order]
        self.place = {b.node: i for i, b in enumerate(self.blocks) if b.node is not None}
        self.scaling = [np.ldexp(1.0, -(np.frexp(b.diagonal)[1] >> 1)) for b in self.blocks]

    @cached_property
    def margin(self) -> float:
        """c: what rounding can hide in the scaled matrix of a coset and in its factorisation; infinite if too much."""
        diagonals = [b.diagonal for b in self.blocks]
        if not all(((d >= 1 / RANGE) & (d <= RANGE)).all() for d in diagonals):
            return math.inf
        order = sum(len(d) * self.n_aliases(b.level) for d, b in zip(diagonals, self.blocks, strict=True))
        trace = sum(
            float((d * s * s).sum()) * self.n_aliases(b.level)
            for d, s, b in zip(diagonals, self.scaling, self.blocks, strict=True)
        )
        forming = self._forming_error() + 8 * UNIT * 4
        return 1.01 * (forming + backward_error(4 * order + 16, trace) + order * UNIT * 8)

    def _subtracted(self, node: Node, t: Array) -> Array:
        """(h^2 - m^2) t: the diagonal of the block that takes this much of |y|^2 away, rounded up."""
        square = node.h * node.h
        size: Array = (square - node.m * node.m + 4 * UNIT * square) * t * (1 + 8 * UNIT)
        return size

    def _forming_error(self) -> float:
        """The spectral norm of the error of the couplings of a coset, by the sums of the norms of its blocks."""
        rows = [0.0] * len(self.blocks)
        for i, block in enumerate(self.blocks):
            for edge in block.edges:
                j = self.place[edge.source]
                n_taps = edge.weight.shape[2] * edge.weight.shape[3]
                # phases are off by 32 u, products of two by 80 u with their scaling (`certlip.proof.torus`)
                relative = 2 * (80 * UNIT + gamma(n_taps + 8)) + gamma(len(block.edges) + 16)
                magnitude = np.abs(edge.weight).sum(axis=(2, 3)) * (1 + gamma(n_taps + 4))
                off = relative * magnitude
                if edge.radius is not None:
                    off += edge.radius.sum(axis=(2, 3)) * (1 + gamma(n_taps + 16))
                off *= np.abs(block.factor * self.scaling[i])[:, None] * self.scaling[j]
                size = float(np.linalg.norm(off)) * (1 + gamma(off.size + 16)) * self._gain(edge)
                stride = math.sqrt(edge.stride[0] * edge.stride[1])
                rows[i] += size * stride
                rows[j] += size
        # what underflows is below the smallest normal number, whatever of this range it is multiplied with
        return 1.01 * max(rows) + 1e-100

    def _gain(self, edge: Edge) -> float:
        if not edge.mean:
            return 1.0
        return math.sqrt(math.prod(self.relaxation.side(self.relaxation.nodes[edge.source].after)))

    def n_aliases(self, level: Pair) -> int:
        return math.prod(self._aliases(level))

    def _aliases(self, level: Pair) -> Pair:
        """Frequencies of a map that belong to one of the coarsest, along rows and columns."""
        if level == POINT:
            return 1, 1
        rows, columns = (c // s for c, s in zip(self.relaxation.coarsest, level, strict=True))
        return rows, columns

    def holds(self, cosets: Cosets | None = None) -> Mask:
        """Which cosets are proved; cosets: (n, 2), all of them when None (one of each conjugate pair)."""
        wanted = cosets_of(self.relaxation.sides) if cosets is None else cosets
        if not np.isfinite(self.margin) or self.margin >= 1:
            return np.zeros(len(wanted), dtype=bool)
        return np.concatenate([self._factorise(wanted[part]) for part in self._parts(wanted)])

    def holds_all(self, cosets: Cosets) -> bool:
        """Whether all of these cosets are proved; those after one that is not are left out."""
        if not np.isfinite(self.margin) or self.margin >= 1:
            return False
        return all(self._factorise(cosets[part]).all() for part in self._parts(cosets))

    def _parts(self, cosets: Cosets) -> Iterator[slice]:
        """Frequency 0 alone, since it has points besides; others as many at once as memory allows."""
        per_coset = sum(
            self.n_aliases(b.level) * len(b.diagonal) * (2 * len(b.diagonal) + sum(e.weight.shape[1] for e in b.edges))
            for b in self.blocks
        )
        step = max(1, CHUNK // per_coset)
        first = 0
        while first < len(cosets):
            if not cosets[first].any():
                yield slice(first, first + 1)
                first += 1
                continue
            zero = next((i for i in range(first, min(first + step, len(cosets))) if not cosets[i].any()), None)
            last = min(first + step, len(cosets)) if zero is None else zero
            yield slice(first, last)
            first = last

    def _factorise(self, cosets: Cosets) -> Mask:
        """Whether the factorisation of each coset runs to its end; blocks are set up when their turn comes."""
        n = len(cosets)
        at_zero = not cosets.any()
        present = [i for i, b in enumerate(self.blocks) if b.level != POINT or at_zero]
        # readers[j]: what is coupled to block j; filled: couplings that elimination has made, by (reader, read)
        couplings: dict[int, dict[int, Complex]] = {i: {} for i in present}
        pivots: dict[int, Complex] = {}
        good = np.ones(n, dtype=bool)
        for i in present:
            for edge in self.blocks[i].edges:
                j = self.place[edge.source]
                new = self._coupling(i, j, edge, cosets)
                couplings[j][i] = couplings[j][i] + new if i in couplings[j] else new
        for j in present:
            size = len(self.blocks[j].diagonal)
            pivot = pivots.pop(j, None)
            if pivot is None:
                pivot = np.zeros((n, self.n_aliases(self.blocks[j].level), size, size), dtype=np.complex128)
            entries = self.blocks[j].diagonal * self.scaling[j] * self.scaling[j] - self.margin
            pivot[..., np.arange(size), np.arange(size)] += entries
            later = couplings.pop(j)
            stacked = np.concatenate([pivot, *later.values()], axis=2)
            del pivot
            factorised = factorise(stacked.reshape(-1, *stacked.shape[2:]), size).reshape(stacked.shape)
            diagonal = np.diagonal(factorised, axis1=2, axis2=3).real
            good &= (diagonal > 0).all(axis=(1, 2)) & np.isfinite(diagonal).all(axis=(1, 2))
            if not good.any():
                return good
            ends = np.cumsum([size, *(c.shape[2] for c in later.values())])
            rows = {i: factorised[:, :, a:b] for i, a, b in zip(later, ends, ends[1:], strict=False)}
            for i, left in rows.items():
                square = self._gathered(j, i, left @ left.conj().swapaxes(-1, -2))
                pivots[i] = pivots[i] - square if i in pivots else -square
                for k, right in rows.items():
                    if k > i:
                        product = self._gathered(j, i, right @ left.conj().swapaxes(-1, -2))
                        couplings[i][k] = couplings[i][k] - product if k in couplings[i] else -product
        return good

    def _coupling(self, i: int, j: int, edge: Edge, cosets: Cosets) -> Complex:
        """(cosets, aliases of j, c_i, c_j), scaled."""
        reads, block = self.blocks[j], self.blocks[i]
        weight = edge.weight * (block.factor * self.scaling[i])[:, None, None, None] * self.scaling[j][:, None, None]
        n_aliases = self.n_aliases(reads.level)
        if reads.level == POINT or edge.mean:
            spectrum = np.zeros((len(cosets), n_aliases, *weight.shape[:2]), dtype=np.complex128)
            spectrum[:, 0] = weight[:, :, 0, 0] * self._gain(edge)
            return spectrum
        phases = [self._phases(edge, cosets[:, axis], axis, reads.level) for axis in (0, 1)]
        product = np.einsum("fau,fbv->fabuv", *phases).reshape(-1, weight.shape[2] * weight.shape[3])
        taps = weight.reshape(-1, weight.shape[2] * weight.shape[3]).T / math.sqrt(edge.stride[0] * edge.stride[1])
        spectrum = np.empty((len(product), taps.shape[1]), dtype=np.complex128)
        spectrum.real, spectrum.imag = product.real @ taps, product.imag @ taps
        return spectrum.reshape(len(cosets), n_aliases, *weight.shape[:2])

    def _phases(self, edge: Edge, frequencies: NDArray[np.intp], axis: int, level: Pair) -> Complex:
        """(cosets, aliases, taps): exp(2 pi i frequency (dilation u - offset) / side), reduced in integers."""
        side, coarse = self.relaxation.side(level)[axis], self.relaxation.sides[axis]
        own = frequencies[:, None] + coarse * np.arange(self._aliases(level)[axis])
        places = edge.dilation[axis] * np.arange(edge.weight.shape[2 + axis]) - edge.offset[axis]
        return np.exp(2j * np.pi * ((own[..., None] * places) % side) / side)

    def _gathered(self, j: int, i: int, terms: Complex) -> Complex:
        """The sum over the aliases of block j that are one of block i."""
        (rows, columns), (r, c) = self._aliases(self.blocks[j].level), self._aliases(self.blocks[i].level)
        if (rows, columns) == (r, c):
            return terms
        if self.blocks[i].level == POINT:
            return terms.sum(axis=1, keepdims=True)
        apart = terms.reshape(len(terms), rows // r, r, columns // c, c, *terms.shape[2:])
        return apart.sum(axis=(1, 3)).reshape(len(terms), r * c, *terms.shape[2:])


def cosets_of(sides: Pair) -> Cosets:
    """Frequencies (n, 2) of a torus, one of each conjugate pair, 0 first."""
    return np.stack(frequencies(sides), axis=1)


def factorise(columns: Complex, n: int) -> Complex:
    """Cholesky factorisation of a batch, overwritten: the first n rows of (batch, rows, n) are Hermitian, by their
    lower triangles, and become the factor L; each row r below becomes r L^-*. What breaks down becomes NaN.
    """
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for first in range(0, n, PANEL):
            last = min(first + PANEL, n)
            panel, width = np.ascontiguousarray(columns[:, first:, first:last]), last - first
            for j in range(width):
                root = np.sqrt(panel[:, j, j].real)
                panel[:, j, j] = root
                panel[:, j + 1 :, j] /= root[:, None]
                panel[:, j + 1 :, j + 1 :] -= panel[:, j + 1 :, j, None] * panel[:, None, j + 1 : width, j].conj()
            columns[:, first:, first:last] = panel
            below = panel[:, width:]
            columns[:, last:, last:] -= below @ below[:, : n - last].conj().swapaxes(-1, -2)
    return columns


def _coarseness(level: Pair) -> float:
    return math.inf if level == POINT else math.prod(level)
