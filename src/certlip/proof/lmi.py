"""The matrix inequality of LipSDP-Neuron (Fazlyab et al. 2019, arXiv 1906.04893, Theorem 2), with general metrics.

For f(x) = W_L phi_L(... phi_1(W_0 x)), slopes of phi_i in [a_i, b_i], multipliers T_i >= 0 (one a hidden neuron), an
input metric M = diag(m) and an output metric Q = diag(q), in the variables (x, z_1, ..., z_L), a_i and b_i as diagonal
matrices where neurons differ:

    P(rho, T) = rho M - W_L' Q W_L + sum_i [W_{i-1}; I]' [[2 a_i b_i T_i, -(a_i + b_i) T_i], [., 2 T_i]] [W_{i-1}; I]

is block tridiagonal, and P >= 0 implies |f(x) - f(y)|_Q^2 <= rho |x - y|_M^2.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from certlip.base.rounding import gamma
from certlip.network import Array
from certlip.network.chain import SMALLEST, Chain, Slopes
from certlip.network.slopes import are_narrow
from certlip.proof.coupling import Coupling

Multipliers = tuple[Array, ...]
"""T_1..T_L, T_i of shape (n_i,)."""

CACHED = 2**17
"""Entries that stay in a processor's cache."""


@dataclass(frozen=True, eq=False)
class Lmi:
    """The data of P(rho, T).

    weights: W_0..W_L, W_i of shape (n_{i+1}, n_i); slopes: (a_i, b_i) for i = 1..L, numbers or arrays (n_i,);
    input_metric: m >= 0 of shape (n_0,), None for ones; output_metric: q >= 0 of shape (n_{L+1},), None for ones;
    radii: elementwise distance of each W_i to the exact matrix, None where exact.
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

    @cached_property
    def _m(self) -> Array:
        return np.ones(self.sizes[0]) if self.input_metric is None else self.input_metric

    @property
    def n_multipliers(self) -> int:
        return self.order - self.sizes[0]

    def blocks(self, rho: float, multipliers: Sequence[Array]) -> tuple[list[Array], list[Array]]:
        """The blocks of P(rho, T) on its diagonal and below.

        Those on the diagonal have shape (n_i, n_i), or (n_i,) where they are diagonal matrices themselves; those below
        have shape (n_i, n_{i-1}), i = 1..L.
        """
        (*diagonal, _), (*couplings, output) = self.extended(rho, multipliers)
        last = output.weight
        with np.errstate(over="ignore", invalid="ignore"):
            weighted = last if self.output_metric is None else -output.rows[:, None] * last
            diagonal[-1] = add_diagonal(-(last.T @ weighted), diagonal[-1])
        return diagonal, [coupling.entries() for coupling in couplings]

    @np.errstate(over="ignore", invalid="ignore")
    def extended(self, rho: float, multipliers: Sequence[Array]) -> tuple[list[Array], list[Coupling]]:
        """The matrix whose Schur complement is P(rho, T): its diagonal, as of `blocks`, and the blocks below.

        -W_L' Q W_L is what is left of a last block y, of the outputs, with Q on the diagonal and -Q W_L below: for
        Q > 0 either matrix is positive semidefinite where the other is. That is one more layer of neurons, with
        multipliers Q / 2 and slopes (0, 2), and needs no product of weights. Outputs of weight zero are left out.
        """
        layers = self._layers(multipliers)
        diagonal, couplings = [rho * self._m, *(2 * t for t, *_ in layers)], []
        for i, (t, (a, b), w, _) in enumerate(layers):
            products = _products(t, (a, b), w)
            if products is not None:
                diagonal[i] = products + diagonal[i] if products.ndim == 1 else add_diagonal(products, diagonal[i])
            couplings.append(Coupling(w, -(a + b) * t, np.ones(w.shape[1])))
        return diagonal, couplings

    @cached_property
    def is_narrow(self) -> bool:
        """Whether some neurons only carry their values, or nearly: their multipliers are far above all others."""
        return any(map(are_narrow, self.slopes))

    @cached_property
    def are_vectors(self) -> list[bool]:
        """Which diagonal blocks of `extended` are diagonal matrices, that of the outputs included."""
        layers = zip(self.weights, self.slopes, strict=False)
        return [*(_is_diagonal(w, slopes) for w, slopes in layers), True, True]

    @np.errstate(over="ignore", invalid="ignore")
    def positive_diagonal(self, rho: float, multipliers: Sequence[Array]) -> Array:
        """The size of the terms that the diagonal of `extended` is made of, before they cancel."""
        layers = self._layers(multipliers)
        rows = [rho * self._m, *(2 * t for t, *_ in layers)]
        for i, (t, (a, b), w, _) in enumerate(layers):
            product = np.abs(2 * a * b)
            if np.ndim(a):
                rows[i] += np.square(w).T @ (product * t)
            elif product:
                rows[i] += product * (np.square(w).T @ t)
        return np.concatenate(rows)

    @np.errstate(over="ignore", invalid="ignore")
    def error(self, rho: float, multipliers: Sequence[Array], scaling: Array) -> float:
        """An upper bound on the spectral norm of D (E_computed - E_exact) D, E = `extended`, D = diag(scaling) > 0.

        Covers every rounding of an entry, a shift of the diagonal and the division by the root of a pivot among them
        (elementwise gamma_n bounds, largest absolute row sum), the radii, and underflow: of a product below 2^-1022 up
        to 2^-1075 is lost, absolutely, and then multiplied. In an entry t w of `extended` that is by w and by D twice;
        in one of 2ab W' T W by 2ab, by w again, and by D twice; in the bound itself, where (|W| d) underflows, by a
        slope, t, and for products once more by 2ab w. `docs/rounding.md` has the list. Of slopes that differ the row of
        a neuron has its own, and underflow the steepest.
        """
        layers = self._layers(multipliers)
        rounding = gamma(max((len(w) for _, (a, b), w, _ in layers if np.any(a * b)), default=0) + 16)
        d = cut(scaling, [*self.sizes, len(layers[-1][0])])
        rows = [np.zeros(len(part)) for part in d]
        rows[0] += rounding * (rho * self._m * d[0])
        largest = max(1.0, float(scaling.max()))
        smallest = 64.0 * len(scaling) ** 2 * SMALLEST * largest
        underflow = []
        for i, (t, (a, b), w, radius) in enumerate(layers, start=1):
            product, slope_sum = (np.broadcast_to(x, len(t)) for x in (np.abs(2 * a * b), np.abs(a) + np.abs(b)))
            has_product, scaled = product.any(), t * d[i]
            rows[i] += 2 * rounding * scaled
            entry = np.float64(1.0)
            for k in _cached_rows(w):
                magnitude = np.abs(w[k])
                off = None if radius is None else radius[k]
                magnitude = magnitude if off is None else magnitude + off
                entry = np.maximum(entry, magnitude.max(initial=0.0))
                # what |W| and the error of W make of d; what |W|' and the radii' are multiplied with
                forward = magnitude @ d[i - 1]
                error = rounding * forward + (0.0 if off is None else off @ d[i - 1])
                rows[i][k] += slope_sum[k] * t[k] * error
                u = slope_sum[k] * scaled[k]
                v = rounding * u
                if has_product:
                    u = u + 2 * product[k] * t[k] * forward
                    v = rounding * u + product[k] * t[k] * (2 * error + rounding * forward)
                rows[i - 1] += v @ magnitude
                if off is not None:
                    rows[i - 1] += u @ off
            steepness = (1 + slope_sum + product).max(initial=1.0) * (entry if has_product else 1.0)
            underflow.append(steepness * (smallest * entry * largest + smallest * t.max(initial=0.0)))
        sums = [(r * s).max(initial=0.0) for r, s in zip(rows, d, strict=True)]
        return float(1.01 * np.max(sums) + np.max(underflow))

    def _layers(self, multipliers: Sequence[Array]) -> list[tuple[Array, Slopes, Array, Array | None]]:
        """Multipliers, slopes, weights and radii of each layer of `extended`."""
        q = np.ones(len(self.weights[-1])) if self.output_metric is None else self.output_metric
        weights, radii = list(self.weights), list(self.radii or (None,) * len(self.weights))
        if not q.all():
            heard = q > 0
            weights[-1], q, radius = weights[-1][heard], q[heard], radii[-1]
            radii[-1] = None if radius is None else radius[heard]
        return list(zip([*multipliers, q / 2], [*self.slopes, (0.0, 2.0)], weights, radii, strict=True))


def _products(t: Array, slopes: Slopes, w: Array) -> Array | None:
    """2ab W' T W, a vector where `_is_diagonal`, None where it is zero."""
    a, b = slopes
    product = 2 * a * b
    if not isinstance(product, np.ndarray):
        return product * (w.T @ (t[:, None] * w)) if product else None
    rows = product != 0
    read, weighted = w[rows], (product * t)[rows, None] * w[rows]
    return (read * weighted).sum(axis=0) if _is_diagonal(w, slopes) else read.T @ weighted


def _is_diagonal(w: Array, slopes: Slopes) -> bool:
    """Whether ab W' T W is treated as a diagonal matrix: no neuron with ab != 0, or each reads one value and slopes
    differ, as where some neurons only carry one."""
    a, b = slopes
    product = a * b
    if not isinstance(product, np.ndarray):
        return not product
    return bool((np.count_nonzero(w[product != 0], axis=1) <= 1).all())


def cut(vector: Array, sizes: Sequence[int]) -> list[Array]:
    """Consecutive parts of these sizes."""
    ends = list(accumulate(sizes))
    return [vector[end - n : end] for n, end in zip(sizes, ends, strict=True)]


def add_diagonal(matrix: Array, diagonal: Array) -> Array:
    """The matrix, overwritten, plus a diagonal one."""
    matrix[np.diag_indices_from(matrix)] += diagonal
    return matrix


def _cached_rows(matrix: Array) -> Iterator[slice]:
    """Consecutive rows that fit a processor's cache."""
    n_rows = max(1, CACHED // max(1, matrix.shape[1]))
    return (slice(k, k + n_rows) for k in range(0, len(matrix), n_rows))
