"""CVXOPT (Andersen, Dahl & Vandenberghe), a primal-dual interior-point method, through CVXPY; under the GPL."""

from __future__ import annotations

from certlip.proof.lmi import Lmi
from certlip.sdp.solvers import Proposal, SolverInfo
from certlip.sdp.solvers._conic import missing, solve_cvxpy, version_of

INFO = SolverInfo("CVXOPT", preference=35, max_order=500, version=lambda: version_of("cvxopt"))


def unavailable() -> str | None:
    return missing("cvxopt", "cvxpy")


def memory_mb(lmi: Lmi) -> float:
    """A dense column of order^2 for each variable."""
    return 200 + 2 * 8 * lmi.order**2 * (lmi.n_multipliers + 1) / 2**20


def solve(lmi: Lmi, *, rtol: float, threads: int, max_seconds: float | None) -> Proposal:
    """CVXOPT has no time limit of its own; the process limit ends it."""
    return solve_cvxpy(
        "CVXOPT", lmi, {"reltol": rtol / 10, "abstol": rtol / 10, "feastol": min(rtol / 10, 1e-7)}, max_seconds
    )
