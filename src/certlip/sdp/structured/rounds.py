"""Rounds of the ascent, and looks at the gap between its dual value and the primal one where a round has settled it."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from certlip.base.deadline import Deadline
from certlip.sdp.looks import RESERVE, Looks, sweep
from certlip.sdp.structured.ascent import Ascent
from certlip.sdp.structured.openings import Opening, open_least, open_soon, open_within, promise
from certlip.sdp.structured.outcome import Outcome, Report, unheard
from certlip.sdp.structured.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

FIRST_ROUND, GROWTH, MAX_ROUNDS = 10, 1.3, 20
"""Sweeps of the first round, their growth from round to round, and the last round: 6,000 sweeps in all."""
PATIENCE = 3
"""Rounds in a row without progress in either bound after which the ascent gives up."""
SETTLED = 0.03
"""Progress of a round, in units of rtol, after which the gap is worth a look: one takes as long as many sweeps."""


def ascend(
    problem: Problem,
    rtol: float,
    deadline: Deadline = Deadline(),  # noqa: B008, frozen
    report: Report = unheard,
) -> Outcome:
    """Rounds of sweeps until both bounds are within rtol, or progress ends.

    report: told the best so far after each round. Outcome.iterations counts rounds; its rho is infinite where no round
    gave feasible multipliers. Raises LimitExceeded where the time would not suffice to prove any.
    """
    import torch

    looks = Looks(problem.lmi)
    looks.check(deadline)
    ascent = Ascent(problem)
    best, rho, stalled = torch.cat(ascent.multipliers), math.inf, 0
    for n_rounds in range(1, MAX_ROUNDS + 1):
        before = ascent.lower
        late = sweep(ascent, int(FIRST_ROUND * GROWTH ** (n_rounds - 1)), deadline, RESERVE * looks.seconds)
        ascent.settle()
        progress, gap_before = (ascent.lower - before) / ascent.lower, 1 - ascent.lower / rho
        converged = progress <= 0.01 * rtol
        if late:
            found = open_soon(problem.lmi, ascent.multipliers, ascent.lower, looks, deadline)
        else:
            is_last = converged or n_rounds == MAX_ROUNDS
            found = _look(problem, ascent, rtol, progress <= SETTLED * rtol, is_last, looks, deadline)
        if found is not None and found[1] < rho:
            best, rho = found
        outcome = Outcome(best, rho, ascent.lower, n_rounds, "time_limit" if late else "ok")
        report(partial(_so_far, outcome, ascent.multipliers))
        log.info("round %2d  lower %.9g  gap %.1e  rank %d", n_rounds, ascent.lower, outcome.gap, ascent.rank)
        if late or outcome.gap <= rtol:
            return outcome
        if progress <= rtol and ascent.saturated:
            ascent.widen()
        stalled = stalled + 1 if converged and outcome.gap > gap_before / 2 else 0
        if stalled == PATIENCE:
            return outcome
    return outcome


def _look(
    problem: Problem, ascent: Ascent, rtol: float, settled: bool, is_last: bool, looks: Looks, deadline: Deadline
) -> Opening | None:
    """Feasible multipliers near those of the ascent: within rtol where a round has settled it, whatever can be proved
    where it is the last look."""
    proposal, found = (problem.lmi, ascent.multipliers, ascent.lower), None
    if settled:
        with looks.timed():
            found = open_within(*proposal, rtol)
    return open_least(*proposal, rtol, looks, deadline) if found is None and is_last else found


def _so_far(outcome: Outcome, multipliers: Sequence[Tensor]) -> Outcome:
    """The outcome, or where nothing is proved yet what these multipliers promise."""
    if math.isfinite(outcome.rho):
        return outcome
    opened, rho = promise(multipliers, outcome.lower)
    return replace(outcome, multipliers=opened, rho=rho)
