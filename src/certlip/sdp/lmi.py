"""The matrix inequality of LipSDP-Neuron (Fazlyab et al. 2019, arXiv 1906.04893, Theorem 2), with general metrics.

For f(x) = W_L phi_L(... phi_1(W_0 x)), slopes of phi_i in [a_i, b_i], multipliers T_i >= 0 (one a hidden neuron), an
input metric M = diag(m) and an output metric Q = diag(q), in the variables (x, z_1, ..., z_L):

    P(rho, T) = rho M - W_L' Q W_L + sum_i [W_{i-1}; I]' [[2 a_i b_i T_i, -(a_i + b_i) T_i], [., 2 T_i]] [W_{i-1}; I]

is block tridiagonal, and P >= 0 implies |f(x) - f(y)|_Q^2 <= rho |x - y|_M^2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from certlip.chain import Chain, Slopes
from certlip.network import Array
from certlip.rounding import UNIT, gamma

Multipliers = tuple[Array, ...]
"""T_1..T_L, T_i of shape (n_i,)."""


@dataclass(frozen=True, eq=False)
class Lmi:
    """The data of P(rho, T).

    weights: W_0..W_L, W_i of shape (n_{i+1}, n_i); slopes: (a_i, b_i) for i = 1..L; input_metric: m >= 0 of shape
    (n_0,), None for ones; output_metric: q >= 0 of shape (n_{L+1},), None for ones; radii: elementwise distance of
    each W_i to the exact matrix, None where exact.
    """

    weights: tuple[Array, ...]
    slopes: tuple[Slopes, ...]
    input_metric: Array | None = None
    output_metric: Array | None = None
    radii: tuple[Array | None, ...] = ()

    @classmethod
    def of(cls, chain: Chain, input_metric: Array | None = None, output_metric: Array | None = None) -> Lmi:
        """The inequality of a chain; its `scale` is the caller's to multiply with."""
        return cls(chain.weights, chain.slopes, input_metric, output_metric, chain.radii)

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """n_0 (input) and n_1..n_L (hidden)."""
        return tuple(w.shape[1] for w in self.weights)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Where each block begins, and the order at the end."""
        return tuple(int(n) for n in np.concatenate([[0], np.cumsum(self.sizes)]))

    @property
    def order(self) -> int:
        """Order of P: n_0 and all hidden neurons."""
        return self.starts[-1]

    @property
    def n_multipliers(self) -> int:
        return self.order - self.sizes[0]

    def split(self, multipliers: Array) -> Multipliers:
        """A vector of all multipliers cut into T_1..T_L."""
        return tuple(np.split(multipliers, np.cumsum(self.sizes[1:])[:-1])) if self.n_multipliers else ()

    @np.errstate(over="ignore", invalid="ignore")  # entries that are not finite prove nothing
    def blocks(self, rho: float, multipliers: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        """The blocks of P(rho, T) on its diagonal and below.

        Those on the diagonal have shape (n_i, n_i), or (n_i,) where they are diagonal matrices themselves; those below
        have shape (n_i, n_{i-1}), i = 1..L.
        """
        m = np.ones(self.sizes[0]) if self.input_metric is None else self.input_metric
        diagonal, below = [rho * m, *(2 * t for t in multipliers)], []
        for i, (t, (a, b), w) in enumerate(zip(multipliers, self.slopes, self.weights, strict=False)):
            tw = t[:, None] * w
            if a * b:
                diagonal[i] = add_diagonal(2 * a * b * (w.T @ tw), diagonal[i])
            below.append(-(a + b) * tw)
        last = self.weights[-1]
        q_last = last if self.output_metric is None else self.output_metric[:, None] * last
        diagonal[-1] = add_diagonal(-(last.T @ q_last), diagonal[-1])
        return diagonal, below

    def matrix(self, rho: float, multipliers: Sequence[Array]) -> Array:
        """P(rho, T) as a dense symmetric (order, order) matrix."""
        p = np.zeros((self.order, self.order))
        diagonal, below = self.blocks(rho, multipliers)
        for i, block in enumerate(diagonal):
            self._block(p, i, i)[...] = block if block.ndim == 2 else np.diag(block)
        for i, block in enumerate(below, start=1):
            self._block(p, i, i - 1)[...] = block
            self._block(p, i - 1, i)[...] = block.T
        return p

    def positive_diagonal(self, rho: float, multipliers: Sequence[Array]) -> Array:
        """The size of the terms that the diagonal of P is made of, before they cancel."""
        rows = [np.zeros(n) for n in self.sizes]
        rows[0] += rho if self.input_metric is None else rho * self.input_metric
        for i, (t, (a, b), w) in enumerate(zip(multipliers, self.slopes, self.weights, strict=False), start=1):
            rows[i - 1] += abs(2 * a * b) * (np.square(w).T @ t)
            rows[i] += 2 * t
        return np.concatenate(rows)

    def error(self, rho: float, multipliers: Sequence[Array], scaling: Array) -> float:
        """An upper bound on the spectral norm of D (P_computed - P_exact) D, D = diag(scaling) > 0.

        Covers every rounding of `matrix` (elementwise gamma_n bounds, largest absolute row sum) and the radii.
        """
        rounding = gamma(max(w.shape[0] for w in self.weights) + 16)
        radii = self.radii or (None,) * len(self.weights)
        d = [scaling[i:j] for i, j in zip(self.starts, self.starts[1:], strict=False)]
        m = np.ones(self.sizes[0]) if self.input_metric is None else self.input_metric
        rows = [np.zeros(n) for n in self.sizes]
        rows[0] += rounding * rho * m * d[0]
        for i, (t, (a, b)) in enumerate(zip(multipliers, self.slopes, strict=True), start=1):
            magnitude, distance = _magnitudes(self.weights[i - 1], radii[i - 1], rounding)
            product, slope_sum = abs(2 * a * b), abs(a) + abs(b)
            if product:
                rows[i - 1] += product * _square_error(magnitude, distance, t, d[i - 1], rounding)
            rows[i] += rounding * 2 * t * d[i] + slope_sum * t * (distance @ d[i - 1])
            rows[i - 1] += slope_sum * (distance.T @ (t * d[i]))
        q = np.ones(self.weights[-1].shape[0]) if self.output_metric is None else self.output_metric
        magnitude, distance = _magnitudes(self.weights[-1], radii[-1], rounding)
        rows[-1] += _square_error(magnitude, distance, q, d[-1], rounding)
        # what is lost below the smallest double is multiplied by a weight at the most, and summed over a column
        amplified = max(1.0, *(float(np.abs(w).max(initial=0.0)) for w in self.weights))
        n_terms, largest = self.order + self.weights[-1].shape[0], float(scaling.max())
        underflow = 64.0 * n_terms**2 * amplified * (2.0**-1074 * largest * largest)
        return 1.01 * max(float((r * s).max(initial=0.0)) for r, s in zip(rows, d, strict=True)) + underflow

    def _block(self, p: Array, i: int, j: int) -> Array:
        return p[self.starts[i] : self.starts[i + 1], self.starts[j] : self.starts[j + 1]]


def add_diagonal(matrix: Array, diagonal: Array) -> Array:
    """The matrix, overwritten, plus a diagonal one."""
    matrix[np.diag_indices_from(matrix)] += diagonal
    return matrix


def _magnitudes(weight: Array, radius: Array | None, rounding: float) -> tuple[Array, Array]:
    """|W| enlarged to cover the exact matrix, and the elementwise error of an entry c * W."""
    magnitude = np.abs(weight)
    if radius is None:
        return magnitude, rounding * magnitude
    return magnitude + radius, (rounding * magnitude + radius) * (1 + 8 * UNIT)


def _square_error(magnitude: Array, distance: Array, t: Array, d: Array, rounding: float) -> Array:
    """Row sums of the error of W' diag(t) W, weighted by d."""
    forward = t * (magnitude @ d)
    return 2 * (distance.T @ forward) + 2 * (magnitude.T @ (t * (distance @ d))) + rounding * (magnitude.T @ forward)
