"""DSDP (Benson, Ye & Zhang 2000), a dual-scaling method that uses low rank, as built into CVXOPT (GPL)."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from certlip.base.errors import SolverFailed
from certlip.proof.lmi import Lmi
from certlip.sdp.dense import split
from certlip.sdp.solvers import Proposal, SolverInfo
from certlip.sdp.solvers._conic import coefficients, constant_part, missing, version_of

INFO = SolverInfo("DSDP", preference=20, max_order=2500, version=lambda: version_of("cvxopt"))


def unavailable() -> str | None:
    return missing("cvxopt", "cvxopt.dsdp")


def memory_mb(lmi: Lmi) -> float:
    """The Schur complement and a few dense matrices of the cone."""
    return 150 + 8 * (6 * lmi.order**2 + 3 * (lmi.n_multipliers + 1) ** 2) / 2**20


def solve(lmi: Lmi, *, rtol: float, threads: int, max_seconds: float | None) -> Proposal:
    """Minimise rho subject to -P(x) + S = 0, S >= 0. No time limit of its own; the process limit ends it."""
    from cvxopt import matrix, solvers, spmatrix

    n, m = lmi.order, lmi.n_multipliers
    entries = sparse.coo_array(coefficients(lmi))
    rows, columns = np.divmod(entries.coords[0], n)
    lower = rows >= columns
    # CVXOPT stores matrices by columns
    position = columns[lower] * n + rows[lower]
    g = spmatrix(-entries.data[lower], position.tolist(), entries.coords[1][lower].tolist(), (n * n, m + 1))
    h = matrix(constant_part(lmi))
    objective = matrix(np.concatenate([[1.0], np.zeros(m)]))
    positive = spmatrix(-1.0, range(m), range(1, m + 1), (m, m + 1))
    settings = {"show_progress": False, "DSDP_GapTolerance": rtol / 10, "DSDP_Monitor": 0}
    try:
        answer = solvers.sdp(
            objective, Gl=positive, hl=matrix(0.0, (m, 1)), Gs=[g], hs=[h], solver="dsdp", options=settings
        )
    except (ArithmeticError, ValueError, TypeError) as error:
        raise SolverFailed(f"DSDP: {error}") from error
    if answer["x"] is None:
        raise SolverFailed(f"DSDP: ended as {answer['status']} without a point")
    x = np.asarray(answer["x"]).ravel()
    return Proposal(multipliers=split(lmi, x[1:]), message=answer["status"], rho=float(x[0]))
