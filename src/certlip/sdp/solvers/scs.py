"""SCS (O'Donoghue et al. 2016), a first-order splitting method, through CVXPY.

Its points are slightly infeasible by design, its value can lie below the optimum: certification moves them inside.
"""

from __future__ import annotations

from certlip.proof.lmi import Lmi
from certlip.sdp.solvers import Proposal, SolverInfo
from certlip.sdp.solvers._conic import missing, solve_cvxpy, time_option, version_of

INFO = SolverInfo("SCS", preference=50, max_order=1000, version=lambda: version_of("scs"))


def unavailable() -> str | None:
    return missing("scs", "cvxpy")


def memory_mb(lmi: Lmi) -> float:
    """A handful of dense matrices of the cone."""
    return 200 + 20 * 8 * lmi.order**2 / 2**20


def solve(lmi: Lmi, *, rtol: float, threads: int, max_seconds: float | None) -> Proposal:
    options = {"eps_abs": rtol / 10, "eps_rel": rtol / 10, "max_iters": 200_000}
    return solve_cvxpy("SCS", lmi, {**options, **time_option("time_limit_secs", max_seconds)}, max_seconds)
