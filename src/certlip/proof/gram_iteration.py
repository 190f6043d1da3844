"""Gram iteration: ||A|| <= ||G_t||_F^(2^-t) with G_0 = A, G_{t+1} = G_t* G_t, for batches of matrices (certified).

Delattre, Barthelemy, Araujo & Allauzen 2023 (arXiv 2305.16173, theorem 1), here with the rounding counted. Let H_t be
the computed matrix of step t, scaled by a power of two (exact), F_t its Frobenius norm and P_t its computed square.
Then H_t* H_t = P_t + E with ||E||_F <= eps F_t^2, so

    ||H_t||^2 <= ||P_t|| + eps F_t^2,     ||H_t|| <= F_t,

and the bound of the last Frobenius norm goes back through the steps, each error weakened by the roots that follow.

Real arithmetic: the square of a Hermitian R + i S (R symmetric, S antisymmetric) is, with T = R + S and M = R S,

    (T T' + M + M') + i (M - M'),

a symmetric product and a general one, instead of the four of a complex product. In the first step
A A* = (X X' + Y Y') + i (Y X' - X Y'). As ||T||_F = ||G||_F and 2 ||R||_F ||S||_F <= ||G||_F^2, either step is off by
less than eps = 3 gamma_{n+16} times the square of the Frobenius norm, n the length of its inner products (Higham,
Accuracy and Stability, 3.13).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certlip.base.rounding import UNIT, gamma
from certlip.network import Array

RTOL = 1e-10
"""How tight `largest_norm` is."""

_MAX_STEPS = 50


@dataclass(frozen=True, eq=False)
class Parts:
    """A batch of complex matrices (f, m, n) by real and imaginary parts; None for real matrices."""

    real: Array
    imaginary: Array | None = None

    def take(self, which: NDArray[np.bool_]) -> Parts:
        return Parts(self.real[which], None if self.imaginary is None else self.imaginary[which])


def gram_norm(matrices: Parts, n_iter: int) -> float:
    """A certified bound on the largest spectral norm of a batch: the formula after `n_iter` steps, rounded up."""
    state = _start(matrices)
    for _ in range(n_iter):
        state = _step(state)
    return float(_upper(state).max(initial=0.0))


def largest_norm(batches: Iterable[Parts]) -> float:
    """A certified bound on the largest spectral norm over batches, iterated until it is tight to `RTOL`.

    Matrices leave the iteration once their bound is below what another one attains, so that the late steps, which
    make the bound tight, are made for a few matrices only.
    """
    attained, bound = 0.0, 0.0
    for batch in batches:
        state = _start(batch)
        for _ in range(_MAX_STEPS):
            upper, lower = _upper(state), _lower(state)
            attained = max(attained, float(lower.max(initial=0.0)))
            open_ = upper > attained * (1 + RTOL)
            bound = max(bound, float(upper[~open_].max(initial=0.0)))
            if not open_.any():
                break
            state = _step(state.take(open_))
        else:
            bound = max(bound, float(_upper(state).max(initial=0.0)))
    return bound


@dataclass(frozen=True, eq=False)
class _State:
    """H_t; its Frobenius norms F_t (f,); exponents: sigma(A) = (2^E sigma(H_t))^(2^-t), as E 2^-t (f,).

    steps: (F, exponent shift, eps) of the steps before.
    """

    h: Parts
    frobenius: Array
    exponents: Array
    steps: tuple[tuple[Array, Array, float], ...] = ()

    def take(self, which: NDArray[np.bool_]) -> _State:
        if which.all():
            return self
        steps = tuple((f[which], e[which], eps) for f, e, eps in self.steps)
        return _State(self.h.take(which), self.frobenius[which], self.exponents[which], steps)


def _start(matrices: Parts) -> _State:
    h, exponents = _scaled(_wide(matrices))
    return _State(h, _frobenius(h), exponents.astype(float), ((np.zeros(len(exponents)), exponents, 0.0),))


def _step(state: _State) -> _State:
    first = len(state.steps) == 1
    inner = state.h.real.shape[-1] * (2 if first else 1)
    h, shifts = _scaled(_outer(state.h) if first else _square(state.h))
    step = (state.frobenius, shifts, 3 * gamma(inner + 16))
    exponents = state.exponents + shifts * 0.5 ** len(state.steps)
    return _State(h, _frobenius(h), exponents, (*state.steps, step))


def _upper(state: _State) -> Array:
    """A bound for each matrix of the batch."""
    bounds = state.frobenius
    for frobenius, shifts, eps in state.steps[:0:-1]:
        bounds = np.sqrt(np.ldexp(bounds, shifts) + eps * frobenius**2) * (1 + 8 * UNIT)
    exponents = state.steps[0][1]
    scaled = np.ldexp(bounds, exponents)
    return np.where(np.ldexp(scaled, -exponents) < bounds, np.nextafter(scaled, np.inf), scaled)


def _lower(state: _State) -> Array:
    """About what each matrix attains at least: sigma(H) >= ||H||_F^2 / tr H for a semidefinite H. Not rounded."""
    if len(state.steps) == 1:
        return np.zeros(len(state.frobenius))
    traces = np.trace(state.h.real, axis1=-2, axis2=-1)
    sigma = state.frobenius**2 / np.where(traces > 0, traces, np.inf)
    return sigma ** (0.5 ** (len(state.steps) - 1)) * 2.0**state.exponents


def _wide(matrices: Parts) -> Parts:
    if matrices.real.shape[-2] <= matrices.real.shape[-1]:
        return matrices
    real, imaginary = matrices.real, matrices.imaginary
    return Parts(real.swapaxes(-1, -2), None if imaginary is None else imaginary.swapaxes(-1, -2))


def _scaled(matrices: Parts) -> tuple[Parts, Array]:
    """The matrices times 2^-e with largest element near one, and the exponents e (f,)."""
    largest = np.abs(matrices.real).max(axis=(-1, -2), initial=0.0)
    if matrices.imaginary is not None:
        largest = np.maximum(largest, np.abs(matrices.imaginary).max(axis=(-1, -2), initial=0.0))
    exponents = np.frexp(largest)[1]
    factor = -exponents[:, None, None]
    imaginary = None if matrices.imaginary is None else np.ldexp(matrices.imaginary, factor)
    return Parts(np.ldexp(matrices.real, factor), imaginary), exponents


def _frobenius(matrices: Parts) -> Array:
    """Frobenius norms (f,), rounded up."""
    squares = np.einsum("fij,fij->f", matrices.real, matrices.real)
    if matrices.imaginary is not None:
        squares += np.einsum("fij,fij->f", matrices.imaginary, matrices.imaginary)
    return np.sqrt(squares) * (1 + 2 * gamma(2 * matrices.real[0].size + 16))


def _outer(a: Parts) -> Parts:
    if a.imaginary is None:
        return _hermitian(a.real @ a.real.swapaxes(-1, -2), None)
    both = np.concatenate([a.real, a.imaginary], axis=-1)
    return _hermitian(both @ both.swapaxes(-1, -2), None, a.imaginary @ a.real.swapaxes(-1, -2))


def _square(g: Parts) -> Parts:
    if g.imaginary is None:
        return _hermitian(g.real @ g.real.swapaxes(-1, -2), None)
    total = g.real + g.imaginary
    mixed = g.real @ g.imaginary
    return _hermitian(total @ total.swapaxes(-1, -2), mixed, mixed)


def _hermitian(symmetric: Array, added: Array | None, antisymmetric: Array | None = None) -> Parts:
    """symmetric + added + added' and antisymmetric - antisymmetric', exactly Hermitian whatever the rounding."""
    symmetric *= 0.5
    if added is not None:
        symmetric += added
    real = symmetric + symmetric.swapaxes(-1, -2)
    return Parts(real, None if antisymmetric is None else antisymmetric - antisymmetric.swapaxes(-1, -2))
