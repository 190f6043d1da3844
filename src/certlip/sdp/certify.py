"""From multipliers to a certified bound: the only place where a semidefinite bound becomes `certified`.

Any T >= 0 with P(rho, T) >= 0 proves L <= sqrt(rho), optimal or not. So a solver only proposes T; here rho is computed
from T and P(rho, T) is *verified* positive semidefinite in floating-point arithmetic: if the Cholesky factorisation
of D P D - c I runs to its end, where c covers the backward error of Cholesky (S. M. Rump, Verification of positive
definiteness, BIT 46, 2006) and the rounding made in forming P (`Lmi.error`), then the exact P is positive semidefinite.
D is a diagonal of powers of two, exact, so that badly scaled networks verify too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from certlip.errors import NotCertified
from certlip.network import Array
from certlip.rounding import UNIT, gamma, sqrt_up
from certlip.sdp.lmi import Lmi, Multipliers

SLACKS = (0.0, 1e-9, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1)
"""How far a proposal is moved towards a strictly feasible point until it verifies."""


@dataclass(frozen=True, eq=False)
class Certified:
    """A verified point of an `Lmi`.

    rho: verified value; bound: sqrt(rho), rounded up; multipliers: T_1..T_L; slack: entry of `SLACKS` that was needed;
    margin: the c of the Cholesky verification.
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
    """The c for which D P D - c I was factorised, None if the point is not proved feasible."""
    if not _well_formed(lmi, rho, multipliers):
        return None
    p = lmi.matrix(rho, multipliers)
    if not (np.isfinite(p).all() and (np.diagonal(p) > 0).all()):
        return None
    # where terms of the diagonal cancel, scaling to their difference would blow their rounding up
    size = np.maximum(np.diagonal(p), lmi.positive_diagonal(rho, multipliers))
    scaling = np.ldexp(1.0, -np.round(np.log2(size) / 2).astype(int))
    error = lmi.error(rho, multipliers, scaling)
    p *= scaling[:, None]
    p *= scaling
    factor = gamma(lmi.order + 2)
    c = 1.01 * (error + factor / (1 - factor) * float(np.trace(p)) + lmi.order * UNIT * 4)
    if not np.isfinite(c):
        return None
    p[np.diag_indices_from(p)] -= c
    try:
        cholesky = linalg.cholesky(p, lower=True, overwrite_a=True, check_finite=False)
    except linalg.LinAlgError:
        return None
    # some LAPACKs factorise NaN without complaint
    return c if np.isfinite(np.diagonal(cholesky)).all() else None


def certify(lmi: Lmi, multipliers: Sequence[Array]) -> Certified:
    """The smallest rho that verifies for the proposed multipliers, or for a point slightly more feasible.

    multipliers: T_1..T_L as a solver returned them; negative entries are clipped.
    Raises NotCertified where no point near the proposal verifies (far from feasible, not finite, degenerate scaling).
    """
    if not all(np.isfinite(t).all() for t in multipliers):
        raise NotCertified("the solver returned multipliers that are not finite")
    proposal = tuple(np.maximum(t, 0.0) for t in multipliers)
    anchor = start(lmi)
    least = 2 * lmi.order**2 * UNIT
    for slack in SLACKS:
        mixed = tuple((1 - slack) * t + slack * t0 for t, t0 in zip(proposal, anchor, strict=True))
        lowest = smallest_rho(lmi, mixed)
        if lowest is None:
            continue
        for inflation in (least, 64 * least, 4096 * least):
            rho = lowest * (1 + inflation)
            c = margin(lmi, rho, mixed)
            if c is not None:
                return Certified(rho, mixed, slack, c)
    raise NotCertified("no bound could be verified from the solver's multipliers")


def smallest_rho(lmi: Lmi, multipliers: Sequence[Array]) -> float | None:
    """Smallest rho with P(rho, T) >= 0 by Schur complement, up to rounding; None if S is not definite.

    Unverified: a proposal for `margin`.
    """
    n_0 = lmi.sizes[0]
    p = lmi.matrix(0.0, multipliers)
    coupling, head = p[n_0:, :n_0], p[:n_0, :n_0]
    if lmi.n_multipliers:
        try:
            factor = linalg.cholesky(p[n_0:, n_0:], lower=True, check_finite=False)
        except (linalg.LinAlgError, ValueError):
            return None
        n_1 = lmi.sizes[1]
        # the coupling lives in the first n_1 rows; of the triangular solve all rows are needed
        reduced = linalg.solve_triangular(factor, np.eye(lmi.n_multipliers, n_1), lower=True, check_finite=False)
        gram = reduced.T @ reduced
        head = coupling[:n_1].T @ gram @ coupling[:n_1] - head
    else:
        head = -head
    if lmi.input_metric is not None:
        if not (lmi.input_metric > 0).all():
            return None
        root = 1.0 / np.sqrt(lmi.input_metric)
        head = root[:, None] * head * root
    if not np.isfinite(head).all():
        return None
    largest = float(np.linalg.eigvalsh(head)[-1])
    scale = float(np.abs(np.diagonal(head)).max())
    return max(largest + 1e-13 * scale, np.finfo(float).tiny * 2.0**200)


def start(lmi: Lmi) -> Multipliers:
    """Multipliers T_i = c_i I that are always strictly feasible: the product bound written as a point of the LMI.

    With c_{L+1} = 1 and slopes [a, b], m = (a + b) / 2, r = (b - a) / 2, |phi(y)| <= max(|a|, |b|) |y| is the
    quadratic constraint with multiplier c (1 + |m| / r) / 2.
    """
    q = 1.0 if lmi.output_metric is None else float(lmi.output_metric.max())
    c = 1.05 * q * _squared_norm(lmi.weights[-1])
    blocks: list[Array] = []
    for weight, (a, b) in zip(lmi.weights[-2::-1], lmi.slopes[::-1], strict=True):
        blocks.append(np.full(weight.shape[0], c * (1 + abs(a + b) / (b - a)) / 2))
        c *= 1.05 * max(abs(a), abs(b)) ** 2 * _squared_norm(weight)
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
    )
