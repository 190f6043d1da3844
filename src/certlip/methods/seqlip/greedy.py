"""A large value of ||A diag(sigma) B|| over gates sigma in [a, b]^n: a lower estimate of the maximum, quickly."""

from __future__ import annotations

import numpy as np
import scipy

from certlip.network import Array
from certlip.network.slopes import Slopes

DENSE_ENTRIES = 10**5
"""Up to this many entries a full singular value decomposition is faster than an iterative one."""

_RTOL, _MAX_RESTARTS = 1e-9, 100  # of the squared value: with orthogonal layers the last digits take for ever


def ascend(a: Array, b: Array, slopes: Slopes, n_starts: int, seed: int) -> tuple[float, Array]:
    """The largest norm found, and its gates (n,); a: (p, n), b: (n, q).

    From a start, all gates that u' A diag(sigma) B v, linear in sigma, wants flipped are flipped at once, (u, v) the
    leading singular pair, until none is: the norm grows with each step. Starts: all gates open, then random ones.
    """
    rng = np.random.default_rng(seed)
    n = a.shape[1]
    low, high = (np.broadcast_to(s, n) for s in slopes)
    starts = [high, *(np.where(rng.integers(2, size=n), high, low) for _ in range(n_starts - 1))]
    return max((_climb(a, b, low, high, gates) for gates in starts), key=lambda found: found[0])


def _climb(a: Array, b: Array, low: Array, high: Array, gates: Array) -> tuple[float, Array]:
    value, u, v = leading_pair((a * gates) @ b)
    while True:
        following = np.where((u @ a) * (b @ v) > 0, high, low)
        found, u, v = leading_pair((a * following) @ b)
        if found <= value * (1 + 1e-12):
            return value, gates
        value, gates = found, following


def leading_pair(matrix: Array) -> tuple[float, Array, Array]:
    """Largest singular value and its left and right vectors."""
    u, s, vt = _iterated(matrix) or np.linalg.svd(matrix, full_matrices=False)
    return float(s[0]), u[:, 0], vt[0]


def _iterated(matrix: Array) -> tuple[Array, Array, Array] | None:
    """The leading singular triple of a large matrix; None of a small one, or where many singular values are equal."""
    if min(matrix.shape) <= 2 or matrix.size <= DENSE_ENTRIES:
        return None
    try:
        return scipy.sparse.linalg.svds(matrix, k=1, v0=np.ones(min(matrix.shape)), tol=_RTOL, maxiter=_MAX_RESTARTS)
    except scipy.sparse.linalg.ArpackNoConvergence:
        return None
