"""From multipliers to a certified bound: the only place where a semidefinite bound becomes `certified`.

Any T >= 0 with P(rho, T) >= 0 proves L <= sqrt(rho), optimal or not. So a solver only proposes T; here rho is computed
from T and P(rho, T) is *verified* positive semidefinite in floating-point arithmetic, by way of the matrix E of which
it is a Schur complement (`Lmi.extended`): if the Cholesky factorisation of D E D - c I runs to its end, where c covers
the backward error of Cholesky (S. M. Rump, Verification of positive definiteness, BIT 46, 2006) and the rounding made
in forming E (`Lmi.error`), then the exact E is positive semidefinite, and so is P. D is a diagonal of powers of two,
exact, so that badly scaled networks verify too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from certlip.base.errors import NotCertified
from certlip.base.rounding import UNIT, sqrt_up
from certlip.network import Array
from certlip.proof.cholesky import backward_error, factorises
from certlip.proof.coupling import Coupling
from certlip.proof.lmi import Lmi, Multipliers, add_diagonal, cut

REACH = 2
"""Blocks on either side that a block of the factorisation touches."""
SMALLEST_PRODUCT = 2.0**-1000
"""Of the two slopes of an activation, neither of them zero, in what is proved."""


@dataclass(frozen=True, eq=False)
class Certified:
    """A verified point of an `Lmi`.

    rho: verified value; bound: sqrt(rho), rounded up; multipliers: T_1..T_L; slack: how far they were moved towards the
    start, 0 if not at all; margin: the c of the Cholesky verification.
    """

    rho: float
    multipliers: Multipliers
    slack: float
    margin: float

    @property
    def bound(self) -> float:
        return sqrt_up(self.rho)


def is_feasible(lmi: Lmi, rho: float, multipliers: Sequence[Array]) -> bool:
    """Whether P(rho, T) is proved positive semidefinite, rounding included. Never True for an infeasible point."""
    return margin(lmi, rho, multipliers) is not None


def margin(lmi: Lmi, rho: float, multipliers: Sequence[Array]) -> float | None:
    """The c for which D E D - c I was factorised, None if the point is not proved feasible.

    Where `Lmi.is_narrow`, each block on the diagonal has a c of its own, and this is the largest.
    """
    if not _well_formed(lmi, rho, multipliers):
        return None
    diagonal, couplings = lmi.extended(rho, multipliers)
    entries = np.concatenate([np.diagonal(block) if block.ndim == 2 else block for block in diagonal])
    if not (entries.min() > 0 and entries.max() < np.inf):
        return None
    # where terms of the diagonal cancel, scaling to their difference would blow their rounding up
    size = np.maximum(entries, lmi.positive_diagonal(rho, multipliers))
    scaling = np.ldexp(1.0, -(np.frexp(size)[1] >> 1))
    error = lmi.error(rho, multipliers, scaling)
    sizes = [len(block) for block in diagonal]
    shifts = _shifts(sizes, entries * scaling * scaling, error, REACH if lmi.is_narrow else len(sizes))
    if not np.isfinite(shifts).all():
        return None
    scales = cut(scaling, sizes)
    for i, (block, scale, c) in enumerate(zip(diagonal, scales, shifts, strict=True)):
        block *= scale
        block *= scale if block.ndim == 1 else scale[:, None]
        diagonal[i] = block - c if block.ndim == 1 else add_diagonal(block, np.full(len(block), -c))
    scaled = [
        Coupling(coupling.weight, coupling.rows * here, coupling.columns * before)
        for coupling, before, here in zip(couplings, scales, scales[1:], strict=False)
    ]
    return max(shifts) if factorises(diagonal, scaled) else None


def _shifts(sizes: Sequence[int], entries: Array, error: float, reach: int) -> list[float]:
    """For each block the c that covers what rounding hides: in forming the matrix (error), and in its factorisation.

    The factorisation R'R of a block tridiagonal matrix A with some blocks eliminated first, no two of them neighbours,
    has |R'R - A| <= gamma_{n+2} |R|'|R|, where n of the entries that a column of R can have are in blocks at most two
    away from its own, and so are the columns with which it shares some. With t_i the trace of block i of A, |R|'|R| has
    blocks of norm sqrt(t_i t_j), up to 1 / (1 - gamma), so it is at most the diagonal matrix of sum_j t_j over |i - j|
    <= 2. Over all j that is the trace of A (Rump's bound). entries: of the diagonal of A; reach: most |i - j|.
    """
    ends = np.cumsum([0, *sizes])
    shifts = []
    for i in range(len(sizes)):
        first, last = ends[max(i - reach, 0)], ends[min(i + reach + 1, len(sizes))]
        backward = backward_error(int(last - first) + 2, float(entries[first:last].sum()))
        shifts.append(1.01 * (error + backward + len(entries) * UNIT * 4))
    return shifts


def certify(lmi: Lmi, multipliers: Sequence[Array], rho: float | None = None) -> Certified:
    """The smallest rho that verifies for the proposed multipliers, or for a point slightly more feasible.

    multipliers: T_1..T_L as a solver returned them; negative entries are clipped; rho: the solver's own, taken where
    it verifies, which saves the search for the smallest.
    Raises NotCertified where no point near the proposal verifies (far from feasible, not finite, degenerate scaling).
    """
    from certlip.proof import proposals  # to verify takes none of it

    if not all(np.isfinite(t).all() for t in multipliers):
        raise NotCertified("the proposed multipliers are not finite: the weights of a layer may be too far apart")
    proposal = tuple(np.maximum(t, 0.0) for t in multipliers)
    if rho is not None:
        raised = rho * (1 + proposals.INFLATIONS[0] * proposals.unit(lmi))
        c = margin(lmi, raised, proposal)
        if c is not None:
            return Certified(raised, proposal, 0.0, c)
    for slack, mixed in proposals.towards_start(lmi, proposal):
        proved = proposals.least_proved(lmi, mixed)
        if proved is not None:
            return Certified(proved[0], mixed, slack, proved[1])
    raise NotCertified("no bound could be verified from the solver's multipliers")


def _well_formed(lmi: Lmi, rho: float, multipliers: Sequence[Array]) -> bool:
    metrics = [m for m in (lmi.input_metric, lmi.output_metric) if m is not None]
    vectors = [*multipliers, *metrics]
    return (
        np.isfinite(rho)
        and rho > 0
        and [np.shape(t) for t in multipliers] == [(n,) for n in lmi.sizes[1:]]
        and all(np.isfinite(v).all() and (v >= 0).all() for v in vectors)
        # a product of slopes that loses bits to underflow is no coefficient
        and all(np.all((a == 0) | (b == 0) | (abs(a * b) > SMALLEST_PRODUCT)) for a, b in map(np.asarray, lmi.slopes))
    )
