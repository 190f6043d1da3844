"""Certified spectral norm of a dense matrix that is known up to an elementwise radius."""

from __future__ import annotations

import numpy as np

from certlip.base.rounding import add_up
from certlip.network import Array, Dense
from certlip.network.chain import frobenius_norm
from certlip.proof import norms


def matrix_norm(matrix: Array, radius: Array | None = None) -> float:
    """An upper bound on the norm of every matrix (m, n) within `radius` (m, n) of the given one.

    The radius adds its Frobenius norm. Raises NotCertified where rounding defeats the verification.
    """
    own = norms.layer_constant(Dense("matrix", matrix, np.zeros(len(matrix))), (matrix.shape[1],))
    return own if radius is None else add_up([own, frobenius_norm(radius)])
