"""A solver that misbehaves in the way that the name it was copied to says."""

import time

import numpy as np

from certlip.sdp.solvers import Proposal, SolverInfo, structured

INFO = SolverInfo(title="broken", preference=99, max_order=20_000, version=lambda: "0")
HOW = __name__.rpartition(".")[2]

unavailable = structured.unavailable
memory_mb = structured.memory_mb


def solve(lmi, *, rtol, threads, max_seconds) -> Proposal:
    """Multipliers that prove nothing, called a success."""
    if HOW == "hangs":
        time.sleep(3600)
    honest = structured.solve(lmi, rtol=rtol, threads=threads, max_seconds=max_seconds).multipliers
    change = {
        "nan": lambda t: np.full_like(t, np.nan),
        "infinite": lambda t: np.full_like(t, np.inf),
        "negative": lambda t: -t,
        "zero": lambda t: 0 * t,
        "huge": lambda t: 1e300 * t,
        "random": lambda t: np.random.default_rng(0).exponential(size=t.shape) * t,
    }[HOW]
    return Proposal(multipliers=tuple(change(t) for t in honest), iterations=1, message="optimal", rho=1e-12)
