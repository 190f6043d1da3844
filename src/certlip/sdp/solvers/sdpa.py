"""SDPA (Yamashita et al.), a primal-dual interior-point method, through CVXPY; its Python package is under the GPL."""

from __future__ import annotations

from certlip.proof.lmi import Lmi
from certlip.sdp.solvers import Proposal, SolverInfo
from certlip.sdp.solvers._conic import missing, solve_cvxpy, version_of

INFO = SolverInfo("SDPA", preference=30, max_order=700, version=lambda: version_of("sdpa-python"))


def unavailable() -> str | None:
    return missing("sdpap", "cvxpy")


def memory_mb(lmi: Lmi) -> float:
    """The Schur complement, and dense matrices of the cone."""
    return 200 + 8 * (20 * lmi.order**2 + 3 * (lmi.n_multipliers + 1) ** 2) / 2**20


def solve(lmi: Lmi, *, rtol: float, threads: int, max_seconds: float | None) -> Proposal:
    """SDPA has no time limit of its own; the process limit ends it."""
    options = {"epsilonStar": rtol / 10, "epsilonDash": min(rtol / 10, 1e-7), "numThreads": threads}
    return solve_cvxpy("SDPA", lmi, options, max_seconds)
