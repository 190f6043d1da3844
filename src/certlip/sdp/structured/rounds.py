"""Rounds of the ascent, each followed by a comparison of its dual value with the primal one."""

from __future__ import annotations

import logging
import math
import time

from certlip.sdp.structured.ascent import Ascent
from certlip.sdp.structured.openings import open_least, open_soon, open_within
from certlip.sdp.structured.outcome import Outcome
from certlip.sdp.structured.problem import Problem

log = logging.getLogger(__name__)

FIRST_ROUND, GROWTH, MAX_ROUNDS = 10, 1.3, 20
"""Sweeps of the first round, their growth from round to round, and the last round: 6,000 sweeps in all."""
PATIENCE = 3
"""Rounds in a row without progress in either bound after which the ascent gives up."""
LARGE = 2000
"""Above this order a look at the gap takes longer than many sweeps."""
SETTLED = 0.03
"""Progress of a round, in units of rtol, after which a large problem is worth a look, and any other after rtol."""
LOOK_SECONDS = 1e-12
"""What the first look is taken to cost, in units of order^3."""
RESERVE = 2
"""Time kept for the last proofs and the certificate, in units of a look."""


def ascend(problem: Problem, rtol: float, max_seconds: float | None = None) -> Outcome:
    """Rounds of sweeps until both bounds are within rtol, or progress ends.

    Outcome.iterations counts rounds; its rho is infinite where no round gave feasible multipliers.
    """
    import torch

    begin = time.perf_counter()
    deadline = math.inf if max_seconds is None else begin + max_seconds
    ascent = Ascent(problem)
    best, rho, stalled = torch.cat(ascent.multipliers), math.inf, 0
    cost = LOOK_SECONDS * problem.order**3
    enough = rtol if problem.order <= LARGE else SETTLED * rtol
    for n_rounds in range(1, MAX_ROUNDS + 1):
        before = ascent.lower
        for _ in range(int(FIRST_ROUND * GROWTH ** (n_rounds - 1))):
            ascent.sweep()
            late = time.perf_counter() > deadline - RESERVE * cost
            if late:
                break
        ascent.settle()
        progress, gap_before = (ascent.lower - before) / ascent.lower, 1 - ascent.lower / rho
        converged = progress <= 0.01 * rtol
        proposal = problem.lmi, ascent.multipliers, ascent.lower, rtol
        found, look = None, time.perf_counter()
        if late:
            found = open_soon(problem.lmi, ascent.multipliers, ascent.lower, deadline - cost)
        elif progress <= enough:
            found = open_within(*proposal)
            cost = time.perf_counter() - look
        if found is None and not late and (converged or n_rounds == MAX_ROUNDS):
            found = open_least(*proposal, deadline - cost)
        if found is not None and found[1] < rho:
            best, rho = found
        outcome = Outcome(best, rho, ascent.lower, n_rounds, "time_limit" if late else "ok")
        log.info("round %2d  lower %.9g  gap %.1e  rank %d", n_rounds, ascent.lower, outcome.gap, ascent.rank)
        if late or outcome.gap <= rtol:
            return outcome
        if progress <= rtol and ascent.saturated:
            ascent.widen()
        stalled = stalled + 1 if converged and outcome.gap > gap_before / 2 else 0
        if stalled == PATIENCE:
            return outcome
    return outcome
