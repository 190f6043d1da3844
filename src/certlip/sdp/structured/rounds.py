"""Rounds of the ascent, and looks at the gap between its dual value and the primal one where a round has settled it."""

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
SETTLED = 0.03
"""Progress of a round, in units of rtol, after which the gap is worth a look: one takes as long as many sweeps."""
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
        proposal = problem.lmi, ascent.multipliers, ascent.lower
        found, look = None, time.perf_counter()
        if late:
            found = open_soon(*proposal, deadline - cost)
        elif progress <= SETTLED * rtol:
            found = open_within(*proposal, rtol)
            cost = time.perf_counter() - look
        if found is None and not late and (converged or n_rounds == MAX_ROUNDS):
            found = open_least(*proposal, rtol, deadline - cost)
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
