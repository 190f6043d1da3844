"""From a network on a torus to certified multipliers: rounds of the ascent, and proofs where a round has settled it."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from certlip.network import Array, Pair
from certlip.proof.torus_proof import Cosets, Inequality, Mask, cosets_of
from certlip.proof.torus_relaxation import Relaxation

Proved = tuple[float, tuple[Array, ...]]
"""rho, and the multipliers that prove it."""

log = logging.getLogger(__name__)

FIRST_ROUND, GROWTH, MAX_ROUNDS = 20, 1.3, 25
"""Sweeps of the first round, their growth from round to round, and the last round."""
SETTLED = 0.1
"""Progress of a round, in units of rtol, under which its multipliers are tried."""
FINE_COLUMNS, COARSE_COLUMNS = 3, 32
"""Columns to begin with on the relaxation's own torus, and where a mean reads frequency 0, on the smallest one."""
GROWTHS = np.geomspace(1e-4, 1e3, 29)
"""What opening the multipliers may add to rho, relatively, until they prove a bound."""
REFINEMENTS = 3
"""Halvings of what the opening added to rho."""
LOOK_EVERY = 9
"""Multipliers that have not settled are tried after so many times what that took last, so that there is a value."""
RESERVE = 2
"""Time kept for the last proofs, in units of what they took last."""
PATIENCE = 4
"""Looks in a row without progress after which the ascent gives up."""


@dataclass(frozen=True, eq=False)
class Found:
    """rho: proved with these multipliers, (c_k,) for each node after the input; lower: best dual value."""

    rho: float
    multipliers: tuple[Array, ...]
    lower: float
    n_rounds: int
    status: Literal["ok", "time_limit"] = "ok"

    @property
    def gap(self) -> float:
        """(rho - lower) / rho."""
        return (self.rho - self.lower) / self.rho if math.isfinite(self.rho) else math.inf


def solve(
    relaxation: Relaxation,
    rtol: float,
    max_seconds: float | None = None,
    device: str = "cpu",
    report: Callable[[Found], None] = lambda so_far: None,
) -> Found:
    """Multipliers whose proved rho is within rtol of the optimum, or the best ones by the time limit.

    report: told what is proved as it becomes better. Found.rho is infinite where nothing was proved.
    """
    from certlip.sdp.torus.ascent import Ascent, Columns

    begin = time.perf_counter()
    columns = [Columns(FINE_COLUMNS)]
    if relaxation.has_points:
        columns = [Columns(FINE_COLUMNS - 1), Columns(COARSE_COLUMNS, relaxation.sides)]
    ends = math.inf if max_seconds is None else begin + max_seconds
    ascent, prover = Ascent(relaxation, columns, device=device), Prover(relaxation, ends)
    best, stalled, cost, last_look = Found(math.inf, (), 0.0, 0), 0, 0.0, begin
    for n_rounds in range(1, MAX_ROUNDS + 1):
        before, late = ascent.lower, False
        for _ in range(int(FIRST_ROUND * GROWTH ** (n_rounds - 1))):
            ascent.sweep()
            late = max_seconds is not None and time.perf_counter() - begin + RESERVE * cost > max_seconds
            if late:
                break
        ascent.settle()
        if not math.isfinite(ascent.lower):
            break  # weights so far from one that their squares overflow
        rho, multipliers, settled = best.rho, best.multipliers, ascent.lower - before <= SETTLED * rtol * ascent.lower
        look = time.perf_counter()
        if late or settled or look - last_look > LOOK_EVERY * cost or n_rounds == MAX_ROUNDS:
            proposal = ascent.multiplier_arrays()
            found = prover.within(proposal, ascent.lower, rtol) if settled else None
            found = found or prover.least(proposal, ascent.lower)
            last_look = time.perf_counter()
            cost = last_look - look
            stalled = 0 if found is not None and found[0] < rho * (1 - rtol) else stalled + settled
            if found is not None and found[0] < rho:
                rho, multipliers = found
        best = Found(rho, multipliers, ascent.lower, n_rounds, "time_limit" if late else "ok")
        report(best)
        log.info("round %2d  lower %.9g  gap %.1e  columns %s", n_rounds, best.lower, best.gap, ascent.columns)
        if late or best.gap <= rtol or stalled == PATIENCE:
            break
        if settled:
            ascent.widen(prover.divisor)
    return best


class Prover:
    """Looks for the least rho that is proved.

    ends: on `time.perf_counter`, after which it looks no further; divisor: of the smallest torus whose frequencies are
    all those where the last proof `within` broke down; hard: the frequencies where any did, which are asked first.
    """

    def __init__(self, relaxation: Relaxation, ends: float = math.inf) -> None:
        self.relaxation, self.ends = relaxation, ends
        self.cosets = cosets_of(relaxation.sides)
        self.hard: Mask = np.zeros(len(self.cosets), dtype=bool)
        self.hard[0] = True
        self.divisor: Pair = (1, 1)

    def within(self, multipliers: Sequence[Array], lower: float, rtol: float) -> Proved | None:
        """The multipliers, opened as far as keeps rho within rtol of lower, if they are proved there."""
        rho, opened = _opened(multipliers, lower, 0.9 * rtol)
        holds = self._look(rho, opened)
        if holds.all():
            return self._lowered(rho, opened, lower), opened
        failed = self.cosets[~holds]
        rows, columns = (math.gcd(n, *map(int, failed[:, axis])) for axis, n in enumerate(self.relaxation.sides))
        self.divisor = rows, columns
        return None

    def least(self, multipliers: Sequence[Array], lower: float) -> Proved | None:
        """The multipliers, opened no further than need be; None where no opening will do."""
        low = -1
        while time.perf_counter() < self.ends:
            high = len(GROWTHS)
            while high - low > 1:
                middle = (low + high) // 2
                hard = self._all_hold(*_opened(multipliers, lower, GROWTHS[middle]), self.cosets[self.hard])
                low, high = (low, middle) if hard else (middle, high)
            if high == len(GROWTHS):
                return None
            rho, opened = _opened(multipliers, lower, GROWTHS[high])
            if self._look(rho, opened).all():
                return self._lowered(rho, opened, lower), opened
            low = high - 1
        return None

    def _lowered(self, rho: float, multipliers: tuple[Array, ...], lower: float) -> float:
        """A smaller rho that is proved with the same multipliers."""
        low, high = lower, rho
        for _ in range(REFINEMENTS):
            if time.perf_counter() > self.ends:
                break
            middle = (low + high) / 2
            if all(self._all_hold(middle, multipliers, self.cosets[which]) for which in (self.hard, ~self.hard)):
                high = middle
            else:
                low = middle
        return high

    def _all_hold(self, rho: float, multipliers: Sequence[Array], cosets: Cosets) -> bool:
        return Inequality(self.relaxation, rho, multipliers).holds_all(cosets)

    def _look(self, rho: float, multipliers: Sequence[Array]) -> Mask:
        """Which frequencies are proved, of all."""
        holds = self._holds(rho, multipliers, self.cosets)
        self.hard |= ~holds
        return holds

    def _holds(self, rho: float, multipliers: Sequence[Array], cosets: Cosets) -> Mask:
        return Inequality(self.relaxation, rho, multipliers).holds(cosets)


def _opened(multipliers: Sequence[Array], lower: float, growth: float) -> Proved:
    """rho = f^(K+1) lower and f^(K+1-k) t_k, with f^(K+1) = 1 + growth: strictly feasible where rho and t are feasible.

    It shrinks the coupling of nodes j and k, the diagonal being one, by f^(-|j-k|/2): a Schur product with a positive
    definite matrix (Kac, Murdock & Szego 1953).
    """
    n = len(multipliers) + 1
    f = (1 + growth) ** (1 / n)
    return lower * (1 + growth), tuple(t * f ** (n - k) for k, t in enumerate(multipliers, start=1))
