"""What `certlip.proof.certify` tries: the smallest rho of multipliers, a little more, and nearby feasible points.

Nothing here has to be believed: only what is verified afterwards counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from certlip.base.errors import NotCertified
from certlip.base.rounding import UNIT
from certlip.network import Array
from certlip.network.slopes import half_widths, middles, steepest, steepest_each
from certlip.proof.certify import margin
from certlip.proof.cholesky import cholesky, less_square, solve_lower
from certlip.proof.lmi import Lmi, Multipliers

SLACKS = (1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1)
"""How far a proposal that does not verify is moved towards `start` until it does; one that never does is no proof."""
SMALLEST = 1e-200
"""The least multiplier of `start`: many layers of zeros must not make it zero."""
INFLATIONS = (32.0, 512.0, 8192.0)
"""How far rho is raised above the smallest, relatively and in units of the margin of a well-scaled matrix."""
NARROW_INFLATIONS = tuple(2.0**k for k in range(5, 27))
"""The same where neurons carry their values: their multipliers, and the margin with them, are far above the others'."""
SMALLEST_RHO = 2.0**-960
"""Proposed for a network that is zero: room enough for what underflow may hide."""


def towards_start(lmi: Lmi, proposal: Multipliers) -> Iterator[tuple[float, Multipliers]]:
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
    raised = [lowest * (1 + inflation * unit(lmi)) for inflation in inflations]
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


def unit(lmi: Lmi) -> float:
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
