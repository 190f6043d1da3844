"""MOSEK, a commercial interior-point method, through CVXPY; it needs a licence."""

from __future__ import annotations

from functools import cache

from certlip.proof.lmi import Lmi
from certlip.sdp.solvers import Proposal, SolverInfo
from certlip.sdp.solvers._conic import missing, solve_cvxpy, version_of

INFO = SolverInfo("MOSEK", preference=10, max_order=3000, version=lambda: version_of("mosek"))


@cache
def unavailable() -> str | None:
    if reason := missing("mosek", "cvxpy"):
        return reason
    import mosek

    try:
        with mosek.Env() as environment:
            environment.checkoutlicense(mosek.feature.pton)
    except mosek.Error as error:
        where = "put one at ~/mosek/mosek.lic or name it in MOSEKLM_LICENSE_FILE"
        return f"no licence was found ({error.errno}); {where}"
    return None


def memory_mb(lmi: Lmi) -> float:
    """The Schur complement, and dense matrices of the cone."""
    return 200 + 8 * (20 * lmi.order**2 + 3 * (lmi.n_multipliers + 1) ** 2) / 2**20


def solve(lmi: Lmi, *, rtol: float, threads: int, max_seconds: float | None) -> Proposal:
    parameters = {"MSK_IPAR_NUM_THREADS": threads, "MSK_DPAR_INTPNT_CO_TOL_REL_GAP": rtol / 10}
    if max_seconds is not None:
        parameters["MSK_DPAR_OPTIMIZER_MAX_TIME"] = max_seconds
    return solve_cvxpy("MOSEK", lmi, {"mosek_params": parameters}, max_seconds)
