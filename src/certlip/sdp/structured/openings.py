"""From the multipliers of an ascent to strictly feasible ones with a proved rho.

For f > 1 the multipliers f^(L+1-i) T_i are feasible with f^(L+1) rho for all weights times sqrt(f), as a layer's scale
moves through the chain. The given weights lie strictly inside of that: scaling the couplings of P down is averaging P
with its own sign changes. f^(L+1) - 1 is called the loss.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from certlip.base.deadline import Deadline
from certlip.base.rounding import UNIT
from certlip.network import Array
from certlip.proof.certify import is_feasible
from certlip.proof.lmi import Lmi
from certlip.proof.proposals import INFLATIONS, least_proved, smallest_rho
from certlip.sdp.looks import Looks

if TYPE_CHECKING:
    from torch import Tensor

USUAL_LOSS = 0.1
"""Share of rtol given up for strict feasibility: optimal multipliers may lie on the boundary."""
OTHER_LOSSES = (1e-3, 1.0, 10.0, 100.0)
"""Shares of rtol tried where that one leaves a gap although the ascent has converged."""
LAST_LOSSES = (1e-4, 1e-3, 1e-2, 0.1, 0.5)
"""Shares of rho tried after those: multipliers of an unfinished ascent can be far outside."""
SMALLER, LARGER = (1e-2, 1e-3, 1e-4, 1e-5), (0.1, 0.5)
"""Shares of rho tried where time is up."""
LEAST_LOOKS = 6
"""Looks for which time must be left to search for the least rho of a loss, which takes some of them."""
GAPS = (0.25, 0.999)
"""Gaps tried for given multipliers, in units of rtol: the last one is within it, rounding included."""

Opening = tuple["Tensor", float]
"""Multipliers and a rho that they prove."""


def open_within(lmi: Lmi, blocks: Sequence[Tensor], lower: float, rtol: float) -> Opening | None:
    """A rho with a gap to the lower bound of at most rtol, by one factorisation for each that is tried."""
    opened, multipliers = _scaled(blocks, USUAL_LOSS * rtol)
    tried = (lower / (1 - share * rtol) for share in GAPS)
    return next(((opened, rho) for rho in tried if is_feasible(lmi, rho, multipliers)), None)


def open_least(
    lmi: Lmi, blocks: Sequence[Tensor], lower: float, rtol: float, looks: Looks, deadline: Deadline
) -> Opening | None:
    """The least rho of each loss, up to rounding, as long as losses are below the gap left: the best of them.

    Where there is no time for one, what `open_soon` gives.
    """
    best, rho = None, math.inf
    for loss in (*(share * rtol for share in (USUAL_LOSS, *OTHER_LOSSES)), *LAST_LOSSES):
        if 1 - lower / rho <= max(rtol, loss):
            break
        if not deadline.allows(LEAST_LOOKS * looks.seconds):
            return best or open_soon(lmi, blocks, lower, looks, deadline)
        opened, multipliers = _scaled(blocks, loss)
        least = _least(lmi, multipliers)
        if least < rho:
            best, rho = (opened, least), least
    return best


def open_soon(lmi: Lmi, blocks: Sequence[Tensor], lower: float, looks: Looks, deadline: Deadline) -> Opening | None:
    """By one factorisation for each loss: smaller ones as long as they prove something in time, else larger ones.

    One is tried at any rate, others while there is time for them and for a certificate.
    """
    best = None
    for loss in SMALLER:
        if best and not deadline.allows(2 * looks.seconds):
            break
        with looks.timed():
            found = _at(lmi, blocks, lower, loss)
        if found is None:
            break
        best = found
    for loss in LARGER:
        if best or not (deadline.allows(2 * looks.seconds) or looks.are_quick):
            break
        with looks.timed():
            best = _at(lmi, blocks, lower, loss)
    return best


def promise(blocks: Sequence[Tensor], lower: float) -> Opening:
    """What is tried first where time is up, not proved."""
    return _scaled(blocks, SMALLER[0])[0], lower * (1 + 2 * SMALLER[0])


def _at(lmi: Lmi, blocks: Sequence[Tensor], lower: float, loss: float) -> Opening | None:
    """What a loss promises where that is proved."""
    opened, multipliers = _scaled(blocks, loss)
    rho = lower * (1 + 2 * loss)
    return (opened, rho) if is_feasible(lmi, rho, multipliers) else None


def _least(lmi: Lmi, multipliers: Sequence[Array]) -> float:
    """The least rho up to rounding, infinite where none is proved."""
    if lmi.is_narrow:
        proved = least_proved(lmi, multipliers)
        return math.inf if proved is None else proved[0]
    rho = smallest_rho(lmi, multipliers)
    if rho is None:
        return math.inf
    raised = rho * (1 + INFLATIONS[0] * lmi.order**2 * UNIT)
    return raised if is_feasible(lmi, raised, multipliers) else math.inf


def _scaled(blocks: Sequence[Tensor], loss: float) -> tuple[Tensor, list[Array]]:
    """The multipliers of a loss, joined and apart."""
    import torch

    n_layers = len(blocks) + 1
    factor = (1 + loss) ** (1 / n_layers)
    opened = [t * factor ** (n_layers - i) for i, t in enumerate(blocks, start=1)]
    return torch.cat(opened), [t.cpu().numpy() for t in opened]
