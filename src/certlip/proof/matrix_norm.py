"""Certified spectral norm of a dense matrix that is known up to an elementwise radius."""

from __future__ import annotations

import numpy as np

from certlip.base.rounding import add_up, gamma, multiply_up
from certlip.network import Array, Dense
from certlip.proof import norms


def matrix_norm(matrix: Array, radius: Array | None = None) -> float:
    """An upper bound on the norm of every matrix (m, n) within `radius` (m, n) of the given one.

    The radius adds its Frobenius norm. Raises NotCertified where rounding defeats the verification.
    """
    own = norms.layer_constant(Dense("matrix", matrix, np.zeros(len(matrix))), (matrix.shape[1],))
    return own if radius is None else add_up([own, frobenius_norm(radius)])


def frobenius_norm(matrix: Array) -> float:
    """An upper bound on the Frobenius norm, scaled so that nothing under- or overflows."""
    largest = float(np.abs(matrix).max(initial=0.0))
    if not largest:
        return 0.0
    return multiply_up([largest, float(np.linalg.norm(matrix / largest)) * (1 + 2 * gamma(matrix.size + 8))])
