"""From multipliers to a certified bound: the only place where a semidefinite bound becomes `certified`.

Any T >= 0 with P(rho, T) >= 0 proves L <= sqrt(rho), optimal or not. So a solver only proposes T; here rho is computed
from T and P(rho, T) is *verified* positive semidefinite in floating-point arithmetic, by way of the matrix E of which
it is a Schur complement (`Lmi.extended`): if the Cholesky factorisation of D E D - c I runs to its end, where c covers
the backward error of Cholesky (S. M. Rump, Verification of positive definiteness, BIT 46, 2006) and the rounding made
in forming E (`Lmi.error`), then the exact E is positive semidefinite, and so is P. D is a diagonal of powers of two,
exact, so that badly scaled networks verify too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from certlip.base.errors import NotCertified
from certlip.base.rounding import UNIT, gamma, sqrt_up
from certlip.network import Array
from certlip.network.slopes import half_widths, middles, steepest, steepest_each
from certlip.proof.coupling import Coupling
from certlip.proof.lmi import Lmi, Multipliers, add_diagonal, cut
from certlip.proof.tridiagonal import cholesky, factorises, less_square, solve_lower

SLACKS = (1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1)
"""How far a proposal that does not verify is moved towards `start` until it does; one that never does is no proof."""
SMALLEST = 1e-200
"""The least multiplier of `start`: many layers of zeros must not make it zero."""
INFLATIONS = (32.0, 512.0, 8192.0)
"""How far rho is raised above the smallest, relatively and in units of the margin of a well-scaled matrix."""
REACH = 2
"""Blocks on either side that a block of the factorisation touches."""
NARROW_INFLATIONS = tuple(2.0**k for k in range(5, 27))
"""The same where neurons carry their values: their multipliers, and the margin with them, are far above the others'."""
SMALLEST_PRODUCT = 2.0**-1000
"""Of the two slopes of an activation, neither of them zero, in what is proved."""
SMALLEST_RHO = 2.0**-960
"""Proposed for a network that is zero: room enough for what underflow may hide."""


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
        factor = gamma(int(last - first) + 2)
        trace = float(entries[first:last].sum())
        shifts.append(1.01 * (error + factor / (1 - factor) * trace + len(entries) * UNIT * 4))
    return shifts


def certify(lmi: Lmi, multipliers: Sequence[Array], rho: float | None = None) -> Certified:
    """The smallest rho that verifies for the proposed multipliers, or for a point slightly more feasible.

    multipliers: T_1..T_L as a solver returned them; negative entries are clipped; rho: the solver's own, taken where
    it verifies, which saves the search for the smallest.
    Raises NotCertified where no point near the proposal verifies (far from feasible, not finite, degenerate scaling).
    """
    if not all(np.isfinite(t).all() for t in multipliers):
        raise NotCertified("the proposed multipliers are not finite: the weights of a layer may be too far apart")
    proposal = tuple(np.maximum(t, 0.0) for t in multipliers)
    if rho is not None:
        raised = rho * (1 + INFLATIONS[0] * _unit(lmi))
        c = margin(lmi, raised, proposal)
        if c is not None:
            return Certified(raised, proposal, 0.0, c)
    for slack, mixed in _towards_start(lmi, proposal):
        proved = least_proved(lmi, mixed)
        if proved is not None:
            return Certified(proved[0], mixed, slack, proved[1])
    raise NotCertified("no bound could be verified from the solver's multipliers")


def _towards_start(lmi: Lmi, proposal: Multipliers) -> Iterator[tuple[float, Multipliers]]:
    """Each slack with its multipliers."""
    yield 0.0, proposal
    anchor = start(lmi)
    for slack in SLACKS:
        yield slack, tuple((1 - slack) * t + slack * t0 for t, t0 in zip(proposal, anchor, strict=True))


def least_proved(lmi: Lmi, multipliers: Sequence[Array]) -> tuple[float, float] | None:
    """`smallest_rho`, raised by the least of the inflations that verifies, and the c of its verification."""
    lowest = smallest_rho(lmi, multipliers)
    if lowest is None:
        return None
    inflations = NARROW_INFLATIONS if lmi.is_narrow else INFLATIONS
    raised = [lowest * (1 + inflation * _unit(lmi)) for inflation in inflations]
    first, last, found = 0, len(raised) - 1, None
    while first <= last:
        # many are searched by bisection
        k = (first + last) // 2 if lmi.is_narrow else first
        c = margin(lmi, raised[k], multipliers)
        if c is None:
            first = k + 1
        else:
            found, last = (raised[k], c), k - 1
    return found


def _unit(lmi: Lmi) -> float:
    """About the margin of a well-scaled matrix."""
    return (lmi.order + len(lmi.weights[-1])) ** 2 * UNIT


def smallest_rho(lmi: Lmi, multipliers: Sequence[Array]) -> float | None:
    """Smallest rho with P(rho, T) >= 0 by Schur complements, up to rounding; None if there is none.

    Unverified: a proposal for `margin`.
    """
    if lmi.input_metric is not None and not (lmi.input_metric > 0).all():
        return None
    (head, *diagonal), below = lmi.blocks(0.0, multipliers)
    rows: Array | None = None
    for block, coupling in zip(diagonal[::-1], below[::-1], strict=True):
        factor = cholesky(block if rows is None else less_square(block, rows))
        if factor is None:
            return None
        rows = solve_lower(factor, np.asfortranarray(coupling))
    root = np.ones(lmi.sizes[0]) if lmi.input_metric is None else 1.0 / np.sqrt(lmi.input_metric)
    gram = _gram(head, rows, root)
    if not np.isfinite(gram).all():
        return None
    largest = float(np.linalg.eigvalsh(gram)[-1])
    scale = float(np.abs(np.diagonal(gram)).max())
    return max(largest + 1e-13 * scale, SMALLEST_RHO)


def _gram(head: Array, rows: Array | None, root: Array) -> Array:
    """A matrix with the largest eigenvalue of D (rows' rows - head) D, D = diag(root)."""
    if head.ndim == 1 and head.any():
        head = np.diag(head)
    if rows is not None and head.ndim == 1:
        rows = rows * root
        return rows @ rows.T if len(rows) < len(root) else rows.T @ rows
    return root[:, None] * (-head if rows is None else rows.T @ rows - head) * root


def start(lmi: Lmi) -> Multipliers:
    """Multipliers T_i = c_i I that are always strictly feasible: the product bound written as a point of the LMI.

    With c_{L+1} = 1 and slopes [a, b], m = (a + b) / 2, r = (b - a) / 2, |phi(y)| <= max(|a|, |b|) |y| is the
    quadratic constraint with multiplier c (1 + |m| / r) / 2. Where neurons differ, this is that of the steepest ones,
    and s times as much serves those whose steepest slope, squared, is s times smaller. For a = b, where r = 0, anything
    above 11 c serves, thanks to the 1.05.
    """
    q = 1.0 if lmi.output_metric is None else float(lmi.output_metric.max())
    c = 1.05 * q * _squared_norm(lmi.weights[-1])
    blocks: list[Array] = []
    for weight, slopes in zip(lmi.weights[-2::-1], lmi.slopes[::-1], strict=True):
        steep = steepest(slopes)
        inclined = 1 + np.abs(middles(slopes)) / half_widths(slopes)
        t = c * inclined / 2 * np.square(steep / steepest_each(slopes))
        blocks.append(np.broadcast_to(t, weight.shape[0]).copy())
        c = max(1.05 * steep * steep * _squared_norm(weight) * c, SMALLEST)
    return tuple(blocks[::-1])


def _squared_norm(weight: Array) -> float:
    with np.errstate(over="ignore"):
        gram = weight @ weight.T if weight.shape[0] < weight.shape[1] else weight.T @ weight
    if not np.isfinite(gram).all():
        raise NotCertified("the weights are so large that their squares overflow; scale the network down")
    # not a range of eigenvalues: LAPACK's dsyevr gives up on Gram matrices of nearly orthogonal weights
    largest = float(np.linalg.eigvalsh(gram)[-1])
    return max(largest, 1e-30)


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
