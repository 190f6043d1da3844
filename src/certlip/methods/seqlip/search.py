"""The certified maximum of ||A diag(sigma) B|| over gates sigma in [a, b]^n, by a search that prunes.

The norm is convex in each gate, so the maximum is at a vertex of the box. A node of the search tree fixes some gates
and leaves the others in [c - r, c + r]; with C = A diag(c) B and A_r = A diag(r) each of its points is
C + A_r diag(s) B with |s_k| <= 1, and for any t >= 0, t_k = 0 for fixed gates in the first sum,

    gamma^2 |x|^2 - |C x + A_r w|^2 - sum_k t_k (B_k x)^2 + sum_k t_k w_k^2  >=  0   for all x, w

proves that the node has no norm above gamma (put w = diag(s) B x; the LipSDP of one hidden layer). A node whose matrix
is proved positive semidefinite, rounding included, is pruned; another is split; a vertex that resists raises gamma. The
t are those of the root's LipSDP throughout: sound whatever they are, and so good that few nodes remain.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certlip import sdp
from certlip.base.errors import LimitExceeded, NoBound
from certlip.base.rounding import UNIT, add_up, gamma, multiply_up, scale_up, sqrt_up
from certlip.methods.seqlip.greedy import ascend
from certlip.network import Array
from certlip.network.chain import SMALLEST
from certlip.network.slopes import Slopes, of_neurons, steepest
from certlip.proof.cholesky import backward_error
from certlip.proof.lmi import Lmi

RTOL = 1e-7
"""How far above the best vertex found the certified value starts."""

NEGLIGIBLE = 1e-11
"""Gates whose column of A times row of B is this much smaller than the largest are not searched: their sum is added."""

BATCH = 1024
"""Nodes judged at once."""


def largest_gated_norm(a: Array, b: Array, slopes: Slopes, deadline: float | None = None) -> float:
    """A certified upper bound on the maximum, within about `RTOL` of it; a: (p, n), b: (n, q), taken as exact.

    deadline: of `time.monotonic`. Raises LimitExceeded when it passes.
    """
    sizes = np.abs(a).max(axis=0) * np.abs(b).max(axis=1)
    matters = sizes > NEGLIGIBLE * sizes.max(initial=0.0)
    entries = a.shape[0] * b.shape[1]
    # |a_k| |b_k| is at most the root of p q times the product of the largest entries, each of which may underflow
    share = float(sizes[~matters].sum()) * (1 + gamma(len(sizes) + 8)) + (len(sizes) + 8) * SMALLEST
    dropped = float(np.sqrt(entries)) * share * (1 + 8 * UNIT)
    remainder = multiply_up([steepest(slopes), dropped])
    if not matters.any():
        return remainder
    order = np.flatnonzero(matters)[_largest_first(a[:, matters], b[matters])]
    slopes = of_neurons(slopes, order)
    a, b, exponent, lost = _balance(a[:, order], b[order])
    found = add_up([_search(a, b, slopes, deadline), multiply_up([max(1.0, steepest(slopes)), lost])])
    return add_up([scale_up(found, exponent), remainder])


def _search(a: Array, b: Array, slopes: Slopes, deadline: float | None) -> float:
    """The certified maximum for balanced factors."""
    tree = _Tree.of(a, b, slopes, deadline)
    rho = max(ascend(a, b, slopes, 8, seed=0)[0] ** 2 * (1 + 2 * RTOL), 4 * tree.margin(0.0))
    todo = [(0, *tree.root)]
    while todo:
        if deadline is not None and time.monotonic() > deadline:
            raise LimitExceeded("time_limit", f"the search over {a.shape[1]} gates did not end in time")
        depth, centres, radii = todo.pop()
        if len(centres) > BATCH:
            todo.append((depth, centres[BATCH:], radii[BATCH:]))
        open_nodes = ~tree.is_below(rho, centres[:BATCH], radii[:BATCH])
        centres, radii = centres[:BATCH][open_nodes], radii[:BATCH][open_nodes]
        if not len(centres):
            continue
        if depth < a.shape[1]:
            todo.append((depth + 1, *tree.split(depth, centres, radii)))
            continue
        norms = np.linalg.norm((a * centres[:, None, :]) @ b, 2, axis=(1, 2))
        rho = max(float(norms.max()) ** 2 * (1 + 2 * RTOL), rho + 2 * tree.margin(rho))
        todo.append((depth, centres, radii))
    return sqrt_up(rho)


@dataclass(frozen=True, eq=False)
class _Tree:
    """The data shared by all nodes; gates are fixed in the order of their columns."""

    a: Array
    b: Array
    slopes: Slopes
    t: Array

    @classmethod
    def of(cls, a: Array, b: Array, slopes: Slopes, deadline: float | None) -> _Tree:
        left = None if deadline is None else max(deadline - time.monotonic(), 1e-3)
        lmi = Lmi((b, a), (slopes,))
        try:
            (multipliers,) = sdp.solve_lmi(lmi, rtol=1e-4, max_seconds=left).multipliers
        except NoBound:
            (multipliers,) = sdp.start(lmi)
        # 2 T in (z - a y)(b y - z) is 2 r^2 T in y^2 - w^2
        t = (slopes[1] - slopes[0]) ** 2 / 2 * multipliers
        return cls(a, b, slopes, np.maximum(t, 1e-9 * t.max() or 1.0))

    @property
    def root(self) -> tuple[Array, Array]:
        """Centres and radii (1, n) of the whole box."""
        low, high = self._ends
        centres = (low + high) / 2
        half = np.nextafter(np.maximum(high - centres, centres - low), np.inf)
        return centres[None], np.where(low == high, 0.0, np.nextafter(half, np.inf))[None]

    @property
    def _ends(self) -> tuple[Array, Array]:
        low, high = (np.broadcast_to(s, self.a.shape[1]) for s in self.slopes)
        return low, high

    def split(self, gate: int, centres: Array, radii: Array) -> tuple[Array, Array]:
        """Both ends of a gate for each node; the same nodes where it has but one."""
        low, high = (ends[gate] for ends in self._ends)
        if low == high:
            return centres, radii
        centres, radii = np.repeat(centres, 2, axis=0), np.repeat(radii, 2, axis=0)
        centres[::2, gate], centres[1::2, gate] = low, high
        radii[:, gate] = 0.0
        return centres, radii

    def is_below(self, rho: float, centres: Array, radii: Array) -> NDArray[np.bool_]:
        """Whether each node is proved to have no squared norm above rho; centres, radii: (m, n)."""
        import torch

        q, n = self.b.shape[1], len(self.t)
        k = np.concatenate([(self.a * centres[:, None, :]) @ self.b, self.a * radii[:, None, :]], axis=2)
        matrix = -k.swapaxes(1, 2) @ k
        matrix[:, :q, :q] -= (self.b.T * np.where(radii > 0, self.t, 0.0)[:, None, :]) @ self.b
        diagonal = np.concatenate([np.full(q, rho * (1 - 4 * UNIT)), self.t]) - self.margin(rho)
        matrix[:, np.arange(q + n), np.arange(q + n)] += diagonal
        return (torch.linalg.cholesky_ex(torch.from_numpy(matrix)).info == 0).numpy()

    def margin(self, rho: float) -> float:
        """What rounding can hide in a node's matrix and its Cholesky factorisation (S. M. Rump, BIT 46, 2006)."""
        (p, n), q = self.a.shape, self.b.shape[1]
        steep = steepest(self.slopes) * (1 + 4 * UNIT)
        through = np.abs(self.a) @ np.abs(self.b)
        squares = steep**2 * float(np.sum(through**2) + np.sum(self.a**2))
        weighted = float(np.sum(self.t[:, None] * self.b**2))
        forming = gamma(4 * (n + p) + 64) * (squares + weighted + rho + float(self.t.max()))
        # entries of A and B are at most one, those of a product with a gate at most `steep`
        underflow = 4 * (p + q + n + 2) ** 3 * (1 + steep + float(self.t.max())) * SMALLEST
        return 1.01 * (forming + backward_error(q + n + 4, q * rho + float(self.t.sum()))) + underflow


def _largest_first(a: Array, b: Array) -> NDArray[np.intp]:
    """An order of the columns of A and the rows of B."""
    columns, rows = np.abs(a).max(axis=0), np.abs(b).max(axis=1)
    return np.argsort(-np.log2(columns) - np.log2(rows), kind="stable")


def _balance(a: Array, b: Array) -> tuple[Array, Array, int, float]:
    """Columns of A and rows of B of equal size near one; A B = 2^e times theirs, up to `lost`.

    Only powers of two are moved: nothing is rounded but what falls below the smallest double, which is `lost`, a bound
    on its part of A diag(sigma) B for gates up to one.
    """
    columns, rows = np.abs(a).max(axis=0), np.abs(b).max(axis=1)
    shift = np.round((np.log2(rows) - np.log2(columns)) / 2).astype(int)
    shift_a, shift_b = shift, -shift[:, None]
    up_a, up_b = (-int(np.ceil(np.log2(np.linalg.norm(np.ldexp(m, s), 2)))) for m, s in ((a, shift_a), (b, shift_b)))
    balanced_a, balanced_b = np.ldexp(a, shift_a + up_a), np.ldexp(b, shift_b + up_b)
    exact = (np.ldexp(balanced_a, -shift_a - up_a) == a).all() and (np.ldexp(balanced_b, -shift_b - up_b) == b).all()
    return balanced_a, balanced_b, -(up_a + up_b), 0.0 if exact else float(a.size + b.size) * SMALLEST
