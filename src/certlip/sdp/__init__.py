"""LipSDP: from weight matrices to a certified bound. Reduce, propose (a solver), certify."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import scipy

from certlip.base import progress
from certlip.base.deadline import Deadline
from certlip.base.errors import DataError, LimitExceeded, NotCertified
from certlip.network import Array
from certlip.network.chain import relu_chain
from certlip.proof.certify import Certified, certify, is_feasible
from certlip.proof.lmi import Lmi, Multipliers
from certlip.proof.proposals import start
from certlip.sdp import solvers
from certlip.sdp.looks import Looks
from certlip.sdp.threads import by_size

__all__ = [
    "Draft",
    "Lmi",
    "Multipliers",
    "NotCertified",
    "Solution",
    "certify",
    "finish",
    "is_feasible",
    "left_open",
    "solve",
    "solve_lmi",
    "start",
]


@dataclass(frozen=True, eq=False)
class Solution:
    """A certified solution of a LipSDP.

    bound: certified upper bound sqrt(rho); multipliers: T_1..T_L that prove it; status: ``ok`` or ``time_limit``
    (stopped early: certified all the same, only less tight); gap: the bound over the solver's dual bound, minus one,
    None where it gives none; seconds: wall time, certification included, imports excluded.
    """

    bound: float
    rho: float
    multipliers: Multipliers
    seconds: float
    iterations: int | None
    solver: str
    solver_version: str
    status: str
    slack: float
    margin: float
    order: int
    gap: float | None = None


def solve(
    weights: Sequence[Array],
    solver: str = "auto",
    rtol: float = 1e-4,
    threads: int = 1,
    max_seconds: float | None = None,
    max_memory_mb: float | None = None,
    **options: object,
) -> Solution:
    """Certified LipSDP-Neuron bound of x -> W_L relu(... relu(W_0 x)).

    weights: W_0..W_L, W_i of shape (n_{i+1}, n_i); solver: an adapter's name or ``auto``; rtol: relative gap asked of
    the solver; max_seconds: time limit handed to the solver, the best multipliers so far are certified; max_memory_mb:
    refuse a problem whose predicted memory is above it; options: the adapter's own (``device="cuda"``, ``verbose=True``
    for a line an iteration, ...). On a terminal a bar says that it runs.
    Raises DataError for weights that do not chain or are not finite, SolverUnavailable, LimitExceeded,
    NotCertified.
    """
    try:
        chain = relu_chain(weights)
    except (TypeError, ValueError) as error:
        raise DataError(f"the weights must be a list of matrices W_0..W_L ({error})") from error
    if not chain.weights or not all(w.ndim == 2 and w.size and np.isfinite(w).all() for w in chain.weights):
        raise DataError("the weights must be finite matrices W_0..W_L; check them for NaN and for their shapes")
    for i, (w, following) in enumerate(zip(chain.weights, chain.weights[1:], strict=False)):
        if w.shape[0] != following.shape[1]:
            raise DataError(f"W_{i} has {w.shape[0]} rows but W_{i + 1} has {following.shape[1]} columns")
    lmi = Lmi.of(chain)
    words = f"semidefinite program of order {lmi.order}"
    with nullcontext() if options.get("verbose") else progress.stage(words, seconds=max_seconds):
        return solve_lmi(
            lmi, solver, rtol, threads, max_seconds, max_memory_mb, lambda make: progress.refresh(), **options
        )


@dataclass(frozen=True, eq=False)
class Draft:
    """What a solver had when it was ended: a proposal for the given `Lmi`, in its units, and whose it is."""

    proposal: solvers.Proposal
    solver: str


Report = Callable[[Callable[[], Draft]], None]
"""Told how to get the latest `Draft`: `certlip.base.limits.report`."""


def solve_lmi(
    lmi: Lmi,
    solver: str = "auto",
    rtol: float = 1e-4,
    threads: int = 1,
    max_seconds: float | None = None,
    max_memory_mb: float | None = None,
    report: Report | None = None,
    **options: object,
) -> Solution:
    """Certified solution of an `Lmi` with any fixed metrics; see `solve`. report: for `finish`."""
    name, adapter = solvers.choose(solver, lmi.order)
    begin, deadline = time.monotonic(), Deadline.after(max_seconds)
    looks = Looks(lmi)
    looks.check(deadline)
    with by_size(lmi):
        reduced, factors = reduce(lmi)
    needed = adapter.memory_mb(reduced)
    if max_memory_mb is not None and needed > max_memory_mb:
        raise LimitExceeded(
            "memory_limit",
            f"solver {name} needs about {needed:.0f} MB of memory for order {reduced.order}, "
            f"the limit is {max_memory_mb:.0f} MB",
        )
    if report and adapter.INFO.anytime:

        def draft(make: Callable[[], solvers.Proposal]) -> Draft:
            return Draft(restore(make(), factors), name)

        options["report"] = lambda make: report(partial(draft, make))
    # a solver that is anytime keeps time for the certificate itself
    solving = deadline if adapter.INFO.anytime else deadline.before(2 * looks.seconds)
    proposal = adapter.solve(reduced, rtol=rtol, threads=threads, max_seconds=solving.max_seconds, **options)
    proposal = restore(proposal, factors)
    with by_size(lmi):
        certified = certify_proposal(lmi, proposal)
    return _solution(lmi, certified, proposal, name, time.monotonic() - begin)


def finish(lmi: Lmi, draft: Draft) -> Solution:
    """The certified solution that the last report of `solve_lmi` makes; raises NotCertified where nothing is proved."""
    begin = time.monotonic()
    with by_size(lmi):
        certified = certify(lmi, draft.proposal.multipliers, draft.proposal.rho)
    stopped = replace(draft.proposal, status="time_limit")
    return _solution(lmi, certified, stopped, draft.solver, time.monotonic() - begin)


def _solution(lmi: Lmi, certified: Certified, proposal: solvers.Proposal, solver: str, seconds: float) -> Solution:
    return Solution(
        bound=certified.bound,
        rho=certified.rho,
        multipliers=certified.multipliers,
        seconds=seconds,
        iterations=proposal.iterations,
        solver=solver,
        solver_version=solvers.load(solver).INFO.version(),
        status=proposal.status,
        slack=certified.slack,
        margin=certified.margin,
        order=lmi.order,
        gap=relative_gap(certified.rho, proposal.lower),
    )


def relative_gap(rho: float, lower: float | None) -> float | None:
    """Of the bounds sqrt(rho) and sqrt(lower): their quotient minus one, None where there is no positive lower."""
    return max(math.sqrt(rho / lower) - 1.0, 0.0) if lower is not None and lower > 0 else None


def left_open(gap: float | None) -> str:
    """What to say of a solution that was cut short, with its gap."""
    if gap is None or math.isinf(gap):
        return "certified, its gap not known"
    return f"certified, with a gap of {100 * gap:.2g} % open"


def certify_proposal(lmi: Lmi, proposal: solvers.Proposal) -> Certified:
    """What is proved by a proposal in the units of the `Lmi`.

    Raises LimitExceeded where nothing is, of a solver that was stopped; else NotCertified.
    """
    try:
        return certify(lmi, proposal.multipliers, proposal.rho)
    except NotCertified as error:
        if proposal.status != "time_limit":
            raise
        reason = "the solver was stopped before it had multipliers that prove a bound"
        raise LimitExceeded("time_limit", reason) from error


def reduce(lmi: Lmi) -> tuple[Lmi, tuple[float, ...]]:
    """An equivalent smaller, well-scaled `Lmi` for the solver, and the factors that take rho and each T_i back.

    Metrics move into W_0 and W_L, a wide W_0 and a tall W_L are replaced by their triangular QR factors where those
    have fewer entries, and each layer is divided by a power of two near its norm: with c_i the product of the squared
    divisors of W_i..W_L, T_i = c_i T_i(reduced) and rho = c_0 rho(reduced). Nothing here needs to be exact: `certify`
    sees the given `Lmi`.
    """
    from scipy.linalg import interpolative

    weights = list(lmi.weights)
    if lmi.input_metric is not None:
        weights[0] = weights[0] / np.sqrt(lmi.input_metric)
    if lmi.output_metric is not None:
        weights[-1] = np.sqrt(lmi.output_metric)[:, None] * weights[-1]
    if _has_fewer_entries(weights[0]):
        weights[0] = scipy.linalg.qr(weights[0].T, mode="r")[0][: weights[0].shape[0]].T
    if _has_fewer_entries(weights[-1].T):
        weights[-1] = scipy.linalg.qr(weights[-1], mode="r")[0][: weights[-1].shape[1]]
    divisors = []
    for i, weight in enumerate(weights):
        largest = float(np.abs(weight).max()) or 1.0
        norm = largest * interpolative.estimate_spectral_norm(weight / largest, its=5, rng=0)
        divisors.append(2.0 ** round(np.log2(norm)) if 0 < norm < np.inf else 1.0)
        weights[i] = weight / divisors[-1]
    with np.errstate(over="ignore", under="ignore"):  # `certify` refuses multipliers that are not finite
        factors = np.cumprod(np.square(divisors[::-1]))[::-1]
    return Lmi(tuple(weights), lmi.slopes), tuple(float(f) for f in factors)


def _has_fewer_entries(weight: Array) -> bool:
    """The triangular factor of a wide weight, than the weight itself, that of a convolution being mostly zeros."""
    short, long = weight.shape
    return long > short and int(np.count_nonzero(weight)) > short * (short + 1) // 2


def restore(proposal: solvers.Proposal, factors: Sequence[float]) -> solvers.Proposal:
    """A solver's proposal for `reduce(lmi)` in the units of the given `Lmi`; factors: those of `reduce`."""
    multipliers = tuple(t * f for t, f in zip(proposal.multipliers, factors[1:], strict=True))
    rho, lower = (None if value is None else value * factors[0] for value in (proposal.rho, proposal.lower))
    return replace(proposal, multipliers=multipliers, rho=rho, lower=lower)
