"""Rounds of the ascent, each followed by a comparison of its dual value with the primal one."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from certlip.sdp.structured.ascent import Ascent
from certlip.sdp.structured.barrier import Spectrum
from certlip.sdp.structured.outcome import Outcome
from certlip.sdp.structured.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

FIRST_ROUND, GROWTH, MAX_ROUNDS = 10, 1.3, 20
"""Sweeps of the first round, their growth from round to round, and the last round: 6,000 sweeps in all."""
PATIENCE = 3
"""Rounds in a row without progress in either bound after which the ascent gives up."""
USUAL_LOSS = 0.1
"""Share of rtol given up for strict feasibility: optimal multipliers may lie on the boundary."""
OTHER_LOSSES = (1e-3, 1.0, 10.0, 100.0)
"""Shares of rtol tried where that one leaves a gap although the ascent has converged, or time is up."""
LAST_LOSSES = (1e-4, 1e-3, 1e-2, 0.1, 0.5)
"""Shares of rho tried after those: multipliers of an unfinished ascent can be far outside."""


def ascend(problem: Problem, rtol: float, max_seconds: float | None = None) -> Outcome:
    """Rounds of sweeps until both bounds are within rtol, or progress ends.

    Outcome.iterations counts rounds; its rho is infinite where no round gave feasible multipliers.
    """
    import torch

    begin = time.perf_counter()
    ascent = Ascent(problem)
    best, rho, stalled = torch.cat(ascent.multipliers), math.inf, 0
    for n_rounds in range(1, MAX_ROUNDS + 1):
        before = ascent.lower
        for _ in range(int(FIRST_ROUND * GROWTH ** (n_rounds - 1))):
            ascent.sweep()
            late = max_seconds is not None and time.perf_counter() - begin > max_seconds
            if late:
                break
        ascent.settle()
        progress = (ascent.lower - before) / ascent.lower
        last = late or n_rounds == MAX_ROUNDS
        converged, gap_before = progress <= 0.01 * rtol, 1 - ascent.lower / rho
        if progress <= rtol or last:
            losses = [share * rtol for share in (USUAL_LOSS, *OTHER_LOSSES)] + list(LAST_LOSSES)
            multipliers, top = _opened(problem, ascent, losses if converged or last else losses[:1], rtol)
            best, rho = (multipliers, top) if top < rho else (best, rho)
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


def _opened(problem: Problem, ascent: Ascent, losses: Sequence[float], rtol: float) -> tuple[Tensor, float]:
    """Strictly feasible multipliers near those of the ascent, and their smallest rho (infinite: none).

    For f > 1 the multipliers f^(L+1-i) T_i are feasible with f^(L+1) rho for all weights times sqrt(f), as a
    layer's scale moves through the chain. The given weights lie strictly inside of that: scaling the
    couplings of P down is averaging P with its own sign changes. losses: the f^(L+1) - 1 to try, as long as
    they are below the gap left.
    """
    import torch

    blocks = ascent.multipliers
    n_layers = len(blocks) + 1
    # about what certify.py will ask for: an error of `order` roundings in each entry of each row
    shift = 8 * problem.order**2 * 2.0**-53
    best, rho = torch.cat(blocks), math.inf
    for loss in losses:
        if 1 - ascent.lower / rho <= max(rtol, loss):
            break
        factor = (1 + loss) ** (1 / n_layers)
        multipliers = torch.cat([t * factor ** (n_layers - i) for i, t in enumerate(blocks, start=1)])
        spectrum = Spectrum(problem, multipliers, shift)
        if spectrum.feasible and float(spectrum.eigenvalues[-1]) < rho:
            best, rho = multipliers, float(spectrum.eigenvalues[-1])
    return best, rho
