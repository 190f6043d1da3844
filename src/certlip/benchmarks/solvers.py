"""Semidefinite solvers on the same LipSDP problems, each answer certified by the same judge.

Problems are random, seeded: ``chain-LxN`` has L hidden layers of N neurons and as many inputs and outputs, ``conv-C``
is the width sweep's block of two 3x3 convolutions with C channels on a 10x10 image.
"""

from __future__ import annotations

import math
import re
import time
from typing import Any

import numpy as np
import pandas as pd

from certlip import limits
from certlip.chain import Chain, relu_chain
from certlip.errors import ConfigError, NoBound
from certlip.limits import Limits
from certlip.network import Activation, Conv, Network
from certlip.sdp import certify, reduce, restore
from certlip.sdp import solvers as adapters
from certlip.sdp.lmi import Lmi

COLUMNS = ["problem", "order", "threads", "solver", "title", "status", "bound", "distance", "seconds", "peak_mb"]
COLUMNS += ["iterations", "minimum_eigenvalue", "slack"]


def run(
    *,
    problems: list[str] = ["chain-1x50", "chain-3x30", "conv-2"],  # noqa: B006
    solvers: list[str] | None = None,
    threads: list[int] = [1],  # noqa: B006
    rtol: float = 1e-4,
    max_seconds: float = 300.0,
    max_memory_mb: float = 8000.0,
    seed: int = 0,
) -> pd.DataFrame:
    """A row a problem, number of threads and solver.

    bound: certified; distance: relative, to the best bound of the problem; seconds: of solving and certifying;
    minimum_eigenvalue: of the solver's own P(rho, T), layers at norm one: negative means infeasible as returned; slack:
    how far certification had to move the point. solvers: adapters by name, by default all; one that cannot run here, or
    hits a limit, is a row with its status.
    """
    rows = []
    for problem in problems:
        lmi = Lmi.of(make_problem(problem, seed))
        for n_threads in threads:
            limit = Limits(n_threads, max_seconds, max_memory_mb)
            for solver in solvers or adapters.names():
                common = {"problem": problem, "order": lmi.order, "threads": n_threads, "solver": solver}
                rows.append({**common, "title": adapters.load(solver).INFO.title, **_measure(lmi, solver, rtol, limit)})
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["distance"] = frame["bound"] / frame.groupby("problem")["bound"].transform("min") - 1
    return frame


def make_problem(name: str, seed: int) -> Chain:
    """The chain of a problem's name; raises ConfigError for a name of another form."""
    rng = np.random.default_rng(seed)
    if match := re.fullmatch(r"chain-(\d+)x(\d+)", name):
        depth, n = map(int, match.groups())
        return relu_chain([rng.standard_normal((n, n)) / math.sqrt(n) for _ in range(depth + 1)])
    if match := re.fullmatch(r"conv-(\d+)", name):
        c = int(match.group(1))
        first = Conv("conv1", rng.standard_normal((c, 1, 3, 3)) * math.sqrt(2 / 9), np.zeros(c))
        second = Conv("conv2", rng.standard_normal((c, c, 3, 3)) * math.sqrt(2 / (9 * c)), np.zeros(c))
        return Chain.of(Network((first, Activation("relu", "relu"), second), (1, 10, 10)))
    raise ConfigError(f"problem {name!r} is neither chain-LxN nor conv-C")


def _measure(lmi: Lmi, solver: str, rtol: float, limit: Limits) -> dict[str, Any]:
    try:
        measured = limits.call(_solve, lmi, solver, rtol, limit, limit=limit)
    except NoBound as error:
        return {"status": str(error.status)}
    return {**measured.value, "peak_mb": measured.peak_mb}


def _solve(lmi: Lmi, solver: str, rtol: float, limit: Limits) -> dict[str, Any]:
    _, adapter = adapters.choose(solver, lmi.order)
    begin = time.perf_counter()
    reduced, factors = reduce(lmi)
    proposal = adapter.solve(reduced, rtol=rtol, threads=limit.threads, max_seconds=limit.max_seconds)
    certified = certify(lmi, *restore(proposal, factors))
    seconds = time.perf_counter() - begin
    eigenvalue = None
    if proposal.rho is not None:
        eigenvalue = float(np.linalg.eigvalsh(reduced.matrix(proposal.rho, proposal.multipliers))[0])
    return {
        "status": proposal.status,
        "bound": certified.bound,
        "seconds": seconds,
        "iterations": proposal.iterations,
        "minimum_eigenvalue": eigenvalue,
        "slack": certified.slack,
    }
