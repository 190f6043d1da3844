"""Semidefinite solvers on the same LipSDP problems, each answer certified by the same judge."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from certlip.base import limits
from certlip.base.errors import NoBound
from certlip.base.limits import Limits
from certlip.base.record import Status
from certlip.benchmarks._problems import family, make_problem
from certlip.proof.lmi import Lmi
from certlip.sdp import Certified, certify_proposal, reduce, restore
from certlip.sdp import solvers as adapters
from certlip.sdp.dense import dense_matrix
from certlip.sdp.solvers import Proposal
from certlip.sdp.threads import by_size

if TYPE_CHECKING:
    import pandas as pd

SECONDS_TO_IMPORT = 120.0
LARGEST_DENSE = 3000
"""Above this order the eigenvalues of a dense matrix take minutes, and are not computed."""
COLUMNS = ["problem", "order", "threads", "solver", "title", "status", "tried", "message", "bound", "distance"]
COLUMNS += ["seconds", "certify_seconds", "peak_mb", "iterations", "minimum_eigenvalue", "slack"]


def run(
    *,
    problems: list[str] = ["chain-1x50", "chain-3x30", "conv-2"],  # noqa: B006
    networks: list[str] = [],  # noqa: B006
    solvers: list[str] | None = None,
    threads: list[int] = [1],  # noqa: B006
    rtol: float = 1e-4,
    max_seconds: float = 300.0,
    max_memory_mb: float = 8000.0,
    peers_max_order: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """A row a problem, number of threads and solver.

    bound: certified; distance: relative, to the best bound of the problem; seconds: of solving and certifying, of which
    certify_seconds; minimum_eigenvalue: of the solver's own P(rho, T), layers at norm one, up to order 3,000: negative
    means infeasible as returned; slack: how far certification had to move the point; message: the last word of the
    solver, or of the limit.
    problems: see `_problems`; networks: files they are made from; solvers: adapters by name, by default all; one that
    cannot run here, or hits a limit, is a row with its status, and on larger problems of the family one that was not
    tried; peers_max_order: above it only the solver that ``auto`` prefers is tried.
    """
    import pandas as pd

    files = {Path(file).stem: file for file in networks}
    lmis = {problem: Lmi.of(make_problem(problem, files, seed)) for problem in problems}
    preferred = min(adapters.names(), key=lambda name: adapters.load(name).INFO.preference)
    rows: list[dict[str, Any]] = []
    beaten: dict[tuple[str, str], tuple[str, int]] = {}
    for problem, lmi in sorted(lmis.items(), key=lambda pair: pair[1].order):
        for n_threads in threads:
            limit = Limits(n_threads, max_seconds, max_memory_mb)
            for solver in solvers or adapters.names():
                if lmi.order > peers_max_order and solver != preferred:
                    continue
                key = (solver, family(problem))
                common = {"problem": problem, "order": lmi.order, "threads": n_threads, "solver": solver}
                common["title"] = adapters.load(solver).INFO.title
                tried = key not in beaten
                if tried:
                    row = _measure(lmi, solver, rtol, limit)
                    if row["status"] in (Status.TIME_LIMIT, Status.MEMORY_LIMIT):
                        beaten[key] = row["status"], lmi.order
                else:
                    status, order = beaten[key]
                    row = {"status": status, "message": f"not tried: hit the limit at order {order}"}
                rows.append({**common, "tried": tried, **row})
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["distance"] = frame["bound"] / frame.groupby("problem")["bound"].transform("min") - 1
    return frame


def _measure(lmi: Lmi, solver: str, rtol: float, limit: Limits) -> dict[str, Any]:
    limits.end_idle()
    try:
        limits.call(_prepare, solver, lmi.order, limit=replace(limit, max_seconds=SECONDS_TO_IMPORT))
        measured = limits.call(_solve, lmi, solver, rtol, limit, limit=limit)
    except NoBound as error:
        return {"status": str(error.status), "message": str(error)}
    proposal: Proposal
    certified: Certified
    proposal, certified, solve_seconds, certify_seconds = measured.value
    eigenvalue = None
    if proposal.rho is not None and lmi.order <= LARGEST_DENSE:
        eigenvalue = float(np.linalg.eigvalsh(dense_matrix(reduce(lmi)[0], proposal.rho, proposal.multipliers))[0])
    return {
        "status": str(proposal.status),
        "message": proposal.message or None,
        "bound": certified.bound,
        "seconds": solve_seconds + certify_seconds,
        "certify_seconds": certify_seconds,
        "peak_mb": measured.peak_mb,
        "iterations": proposal.iterations,
        "minimum_eigenvalue": eigenvalue,
        "slack": certified.slack,
    }


def _prepare(solver: str, order: int) -> None:
    """Have the process that solves import what that takes: the limit is the solver's own."""
    adapters.choose(solver, order)


def _solve(lmi: Lmi, solver: str, rtol: float, limit: Limits) -> tuple[Proposal, Certified, float, float]:
    _, adapter = adapters.choose(solver, lmi.order)
    begin = time.perf_counter()
    with by_size(lmi):
        reduced, factors = reduce(lmi)
    proposal = adapter.solve(reduced, rtol=rtol, threads=limit.threads, max_seconds=limit.max_seconds)
    solved = time.perf_counter()
    with by_size(lmi):
        certified = certify_proposal(lmi, restore(proposal, factors))
    return proposal, certified, solved - begin, time.perf_counter() - solved
