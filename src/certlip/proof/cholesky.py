"""Cholesky factorisation as a proof: of block tridiagonal matrices, as `Lmi.blocks` gives them.

A factorisation of A - c I that runs to its end proves A >= 0 if c covers its `backward_error`, the error made in
forming A, and the rounding of A - c I: the caller, which forms A, adds the last two. `certlip.proof.norms` has another
bound, one for many matrices rho I - G at once: 2 n rho stands there for trace / (1 - gamma).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from certlip.base.rounding import gamma
from certlip.network import Array
from certlip.proof.coupling import Coupling
from certlip.proof.elimination import eliminate


def backward_error(n_roundings: int, trace: float) -> float:
    """A bound on the norm of R'R - A, where R is the computed factor of A (S. M. Rump, BIT 46, 2006).

    n_roundings: of the longest inner product, the root and the quotient: at most n + 2 for order n. Complex ones round
    like real ones four times as long (Higham, 3.6).
    """
    factor = gamma(n_roundings)
    return factor / (1 - factor) * trace


def factorises(diagonal: Sequence[Array], couplings: Sequence[Coupling]) -> bool:
    """Whether the Cholesky factorisation of a block tridiagonal matrix runs to its end; the blocks are overwritten.

    diagonal, couplings: as `Lmi.extended` gives them. It is the factorisation of the whole matrix, its rows and columns
    permuted alike, with the products of zeros left out and the sums taken slab by slab. So the usual bound of its
    backward error holds: gamma_n of n terms is the same for every order of the operations, and that of fewer terms is
    smaller (Higham, Accuracy and Stability, 3.1, 8.4 and 10.3).
    """
    reduced = eliminate(diagonal, couplings)
    if reduced is None:
        return False
    (first, *others), below = reduced
    factor = cholesky(first)
    for block, coupling in zip(others, below, strict=True):
        if factor is None:
            return False
        factor = cholesky(less_square(block, solve_lower(factor, coupling.T)))
    return factor is not None


def less_square(block: Array, rows: Array) -> Array:
    """The lower triangle of block - rows' rows, overwritten; a vector stands for a diagonal matrix."""
    matrix = np.diag(block) if block.ndim == 1 else block
    difference: Array = scipy.linalg.blas.dsyrk(-1.0, rows, beta=1.0, c=matrix.T, trans=1, lower=1, overwrite_c=1)
    return difference


def cholesky(block: Array) -> Array | None:
    """The lower Cholesky factor of a symmetric matrix given by its lower triangle; None if it breaks down.

    A vector stands for a diagonal matrix. What is above the diagonal means nothing.
    """
    if block.ndim == 1:
        return np.sqrt(block) if (block > 0).all() else None
    factor, info = scipy.linalg.lapack.dpotrf(block, lower=1, clean=0, overwrite_a=1)
    # some LAPACKs factorise NaN without complaint
    return factor if info == 0 and np.isfinite(np.diagonal(factor)).all() else None


def solve_lower(factor: Array, columns: Array) -> Array:
    """The lower triangular factor's inverse times columns, overwritten."""
    if factor.ndim == 1:
        return np.divide(columns, factor[:, None], out=columns)
    solved: Array = scipy.linalg.blas.dtrsm(1.0, factor, columns, lower=1, overwrite_b=1)
    return solved
