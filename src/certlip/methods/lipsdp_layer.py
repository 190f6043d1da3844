"""LipSDP-Layer: one multiplier a layer (Fazlyab et al. 2019, arXiv 1906.04893, section 3.3).

    minimise rho  subject to  P(rho, T) >= 0,  T_i = tau_i I,  tau_i >= 0          (`certlip.proof.lmi`)

Why it is a bound: its points are points of LipSDP-Neuron. It lies between that and the product of the dense spectral
norms, which is one of its points. Where the neurons of a layer have different slopes, one multiplier for all would be
worse than that product: T_i is then tau_i times what proves the product (`certlip.proof.proposals.start`).

With as few variables as layers no conic solver is needed: a barrier method, minimising

    t rho - log det P(rho, tau) - sum_i log tau_i,      t -> infinity      (Boyd & Vandenberghe 2004, section 11.3)

by Newton steps whose Hessian tr(X A_k X A_l), X = P^-1, A_k = dP / d tau_k, uses that A_k has three blocks only. The
gap to the optimum is at most (order + L) / t. `certify` proves what the last point is worth.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
import scipy
from pydantic import Field

from certlip import sdp
from certlip.base.deadline import Deadline
from certlip.base.record import Kind
from certlip.methods import Bound, MethodInfo, eclipse_fast
from certlip.methods._whole_chain import WholeChain
from certlip.network import Array, Network
from certlip.proof.lmi import Lmi, Multipliers
from certlip.proof.proposals import smallest_rho
from certlip.sdp.dense import dense_matrix

INFO = MethodInfo("LipSDP-Layer", Kind.CERTIFIED, "Fazlyab et al. 2019, arXiv 1906.04893")

GROWTH = 3.0
"""Factor of t from one central point to the next."""

INWARDS = 0.02
"""Share of the always feasible start point in the first one, which is else that of ECLipsE-Fast."""

NEGLIGIBLE = 1e-12
"""A rho this far below the first point's counts as zero: a network may be constant."""


def bound(
    network: Network,
    *,
    rtol: Annotated[float, Field(gt=0, lt=1)] = 1e-4,
    max_seconds: float | None = None,
) -> Bound:
    """The certified value of the best multipliers, or at max_seconds of the last ones.

    rtol: relative gap within which they are the best.
    Raises UnsupportedLayer by layer name, LimitExceeded where the network's matrices would be too large.
    """
    chain = WholeChain(network, max_seconds)
    barrier = _Barrier(chain.lmi)
    spread = barrier.spread

    def report(taus: Array, gap: float) -> None:
        chain.report(lambda: spread(taus), sdp.left_open(gap))

    taus, gap, early = _minimise(barrier, rtol, chain.deadline, report)
    reason = f"the time limit of {max_seconds:g} s cut it short: {sdp.left_open(gap)}" if early else ""
    return chain.bound(spread(taus), reason, gap=sdp.relative_gap(1.0, 1.0 - gap))


@dataclass(frozen=True, eq=False)
class _Barrier:
    """The barrier of one matrix inequality at points (rho, tau_1..tau_L)."""

    lmi: Lmi

    @cached_property
    def profiles(self) -> Multipliers:
        """T_i / tau_i: ones where neurons are alike."""
        return tuple(t / t[0] for t in sdp.start(self.lmi))

    def spread(self, taus: Array) -> Multipliers:
        """T_1..T_L."""
        return tuple(tau * profile for tau, profile in zip(taus, self.profiles, strict=True))

    def matrix(self, point: Array) -> Array:
        return dense_matrix(self.lmi, point[0], self.spread(point[1:]))

    def value(self, point: Array) -> float:
        """-log det P - sum log tau, infinite outside."""
        if not (point > 0).all():
            return np.inf
        try:
            factor = scipy.linalg.cholesky(self.matrix(point), lower=True, overwrite_a=True)
        except scipy.linalg.LinAlgError:
            return np.inf
        return float(-2 * np.log(np.diagonal(factor)).sum() - np.log(point[1:]).sum())

    def derivatives(self, point: Array) -> tuple[Array, Array]:
        """Gradient (L + 1,) and Hessian (L + 1, L + 1)."""
        factor = scipy.linalg.cholesky(self.matrix(point), lower=True, overwrite_a=True)
        lower = scipy.linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)[0]
        x = lower + np.tril(lower, -1).T
        products, columns = zip(*(self._product(x, k) for k in range(len(point))), strict=True)
        gradient = -np.array([float(np.trace(y[c])) for y, c in zip(products, columns, strict=True)])
        hessian = np.array(
            [
                [float(np.sum(y[d] * z[c].T)) for z, d in zip(products, columns, strict=True)]
                for y, c in zip(products, columns, strict=True)
            ]
        )
        gradient[1:] -= 1 / point[1:]
        hessian[1:, 1:] += np.diag(1 / point[1:] ** 2)
        return gradient, hessian

    def _product(self, x: Array, k: int) -> tuple[Array, slice]:
        """The nonzero columns of X A_k, and where they are; k = 0 is rho."""
        starts = self.lmi.starts
        if k == 0:
            return x[:, : starts[1]], slice(0, starts[1])
        (a, b), weight = self.lmi.slopes[k - 1], self.lmi.weights[k - 1]
        before, own = x[:, starts[k - 1] : starts[k]], x[:, starts[k] : starts[k + 1]]
        through, own = before @ weight.T * self.profiles[k - 1], own * self.profiles[k - 1]
        left = (2 * a * b * through - (a + b) * own) @ weight
        return np.hstack([left, 2 * own - (a + b) * through]), slice(starts[k - 1], starts[k + 1])


def _minimise(
    barrier: _Barrier, rtol: float, deadline: Deadline, report: Callable[[Array, float], None]
) -> tuple[Array, float, bool]:
    """tau_1..tau_L, the relative gap of rho to the least, and whether the deadline came first.

    No step is begun that would end after it, going by the longest; report: told each best point so far with its gap.
    The path to the optimum leads away from a good first point before it comes back: the best one is what counts.
    """
    if not barrier.lmi.slopes or not all(w.any() for w in barrier.lmi.weights):
        return np.array([t[0] for t in sdp.start(barrier.lmi)]), 0.0, False  # a constant function: nothing to choose
    fast, inside = eclipse_fast.propose(barrier.lmi), sdp.start(barrier.lmi)
    multipliers = [(1 - INWARDS) * t + INWARDS * s for t, s in zip(fast, inside, strict=True)]
    rho = smallest_rho(barrier.lmi, multipliers) or 1.0
    point = np.array([1.05 * rho, *(t[0] for t in multipliers)])
    weight, negligible = barrier.lmi.order + len(multipliers), NEGLIGIBLE * point[0]
    t, gap, longest = weight / point[0], 1.0, 0.0
    best = np.array([rho, *point[1:]])
    while True:
        begin = time.monotonic()
        best = min(best, point, key=lambda p: float(p[0]))
        report(best[1:], gap)
        if not deadline.allows(longest):
            return best[1:], gap, True
        moved, decrement = _newton_step(barrier, point, t)
        if decrement < 0.25 or moved is None:
            gap = weight / t / max(point[0], negligible)
            if gap <= rtol:
                return min(best, point, key=lambda p: float(p[0]))[1:], gap, False
            t *= GROWTH
        if moved is not None:
            point = moved
        longest = max(longest, time.monotonic() - begin)


def _newton_step(barrier: _Barrier, point: Array, t: float) -> tuple[Array | None, float]:
    """The next point, None where rounding stops all progress, and the squared Newton decrement."""
    gradient, hessian = barrier.derivatives(point)
    gradient[0] += t
    scale = 1 / np.sqrt(np.diagonal(hessian))
    direction = -scale * scipy.linalg.lstsq(hessian * np.outer(scale, scale), scale * gradient)[0]
    slope = float(gradient @ direction)
    here = t * point[0] + barrier.value(point)
    for step in 0.5 ** np.arange(30):
        there = point + step * direction
        if t * there[0] + barrier.value(there) <= here + 0.1 * step * slope:
            return there, -slope
    return None, -slope
