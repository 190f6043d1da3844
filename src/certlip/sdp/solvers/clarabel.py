"""Clarabel (Goulart & Chen 2024), an interior-point method in Rust, through CVXPY."""

from __future__ import annotations

from certlip.proof.lmi import Lmi
from certlip.sdp.solvers import Proposal, SolverInfo
from certlip.sdp.solvers._conic import missing, solve_cvxpy, time_option, version_of

INFO = SolverInfo("Clarabel", preference=40, max_order=200, version=lambda: version_of("clarabel"))


def unavailable() -> str | None:
    return missing("clarabel", "cvxpy")


def memory_mb(lmi: Lmi) -> float:
    """Its factorisation of the packed cone: about three dense matrices of order n (n + 1) / 2 a tenth filled."""
    return 150 + 0.3 * 8 * (lmi.order * (lmi.order + 1) / 2) ** 2 / 2**20


def solve(lmi: Lmi, *, rtol: float, threads: int, max_seconds: float | None) -> Proposal:
    tolerances = {"tol_gap_rel": rtol / 10, "tol_gap_abs": rtol / 10, "tol_feas": min(rtol / 10, 1e-8)}
    options = {**tolerances, "max_threads": threads, **time_option("time_limit", max_seconds)}
    return solve_cvxpy("CLARABEL", lmi, options, max_seconds)
