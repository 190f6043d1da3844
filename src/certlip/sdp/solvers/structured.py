"""Our own solver, for LipSDP alone: ascent on the low-rank dual, Newton's method where that stalls."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from certlip.errors import SolverUnavailable
from certlip.limits import memory_left_mb
from certlip.sdp.certify import start
from certlip.sdp.lmi import Lmi
from certlip.sdp.solvers import Proposal, SolverInfo
from certlip.sdp.solvers._conic import missing
from certlip.sdp.structured.neurons import Neurons

if TYPE_CHECKING:
    from certlip.sdp.structured.outcome import Outcome
    from certlip.sdp.structured.problem import Problem

INFO = SolverInfo(
    title="structured (certlip)",
    licence="BSD-3-Clause",
    preference=0,
    max_order=1_000_000,
    version=lambda: version("certlip"),
)

N_WEIGHTS, N_BLOCKS = 6, 4
"""Copies of all weights, and matrices of the order of the widest layer, alive at the peak of the ascent."""
N_MATRICES = 14
"""Dense matrices of the LMI's order alive at the peak of a Newton step."""

WARM_SHARE = 0.01
"""Share of the start in the point that Newton's method begins with."""


def unavailable() -> str | None:
    """Why it cannot run here, None if it can."""
    return missing("torch")


def memory_mb(lmi: Lmi) -> float:
    """Predicted peak memory of `solve` without Newton's method, torch included."""
    return 300.0 + 8 * (N_WEIGHTS * sum(w.size for w in lmi.weights) + N_BLOCKS * max(lmi.sizes) ** 2) / 2**20


def solve(
    lmi: Lmi,
    *,
    rtol: float,
    threads: int,
    max_seconds: float | None,
    device: str = "cpu",
    verbose: bool = False,
) -> Proposal:
    """Multipliers whose rho is within rtol of the optimum, strictly feasible at any time.

    device: ``cpu`` or ``cuda``, of sweeps and Newton steps; proofs of a gap are made by the processor; verbose: print a
    line an iteration. Proposal.iterations counts rounds of the ascent (10 sweeps, then 1.3 times more each) and Newton
    steps. Those are left out where this process may not take the memory: what the ascent found by then is proposed.
    Raises SolverUnavailable for a CUDA device that is not there.
    """
    import torch

    from certlip.sdp.structured.problem import Problem

    if device != "cpu" and not torch.cuda.is_available():
        raise SolverUnavailable(f"solver structured: torch finds no {device} device here; use device='cpu'")
    begin = time.perf_counter()
    if not lmi.slopes:
        return Proposal((), 0, "nothing to choose")
    neurons = Neurons.of(lmi.weights, lmi.slopes)
    if not neurons.n_kept:
        return Proposal(neurons.restore(np.zeros(0)), 0, "no neuron matters")
    n_threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        problem = Problem(neurons.weights, neurons.slopes, device)
        with _logged(verbose):
            left = None if max_seconds is None else max_seconds - (time.perf_counter() - begin)
            outcome = _solve(problem, neurons, rtol, left)
    finally:
        torch.set_num_threads(n_threads)
    multipliers = neurons.restore(outcome.multipliers.cpu().numpy())
    rho = outcome.rho if math.isfinite(outcome.rho) else None
    lower = outcome.lower if outcome.lower > 0 else None
    return Proposal(multipliers, outcome.iterations, outcome.message, outcome.status, rho, lower)


def _solve(problem: Problem, neurons: Neurons, rtol: float, max_seconds: float | None) -> Outcome:
    """Ascent, and Newton's method from where the ascent stalls."""
    from certlip.sdp.structured.newton import follow
    from certlip.sdp.structured.rounds import ascend

    begin = time.perf_counter()
    found = ascend(problem, rtol, max_seconds)
    found = replace(found, message=f"{found.iterations} rounds of ascent, gap {found.gap:.1e}")
    late = found.status == "time_limit"
    if found.gap <= rtol or (late and math.isfinite(found.rho)):
        return found
    first = problem.weights[-1].new_tensor(np.concatenate(start(Lmi(neurons.weights, neurons.slopes))))
    if not math.isfinite(found.rho):
        found = replace(found, multipliers=first)
    if late:
        return found
    if N_MATRICES * 8 * problem.order**2 / 2**20 > memory_left_mb():
        return replace(found, message=f"{found.message}; no memory for Newton's method")
    left = None if max_seconds is None else max_seconds - (time.perf_counter() - begin)
    # inside by a little: Newton's method crawls along the boundary otherwise
    inside = (1 - WARM_SHARE) * found.multipliers + WARM_SHARE * first
    newton = follow(problem, inside, rtol, left, found.lower)
    best = newton if newton.rho < found.rho else replace(newton, multipliers=found.multipliers, rho=found.rho)
    words = f"{found.iterations} rounds of ascent, {newton.iterations} Newton steps, gap {best.gap:.1e}"
    if newton.message:
        words = f"{words} ({newton.message})"
    return replace(best, iterations=found.iterations + newton.iterations, message=words)


@contextmanager
def _logged(verbose: bool) -> Iterator[None]:
    """A line an iteration on the terminal while the block runs."""
    if not verbose:
        yield
        return
    from rich.logging import RichHandler

    logger = logging.getLogger("certlip.sdp.structured")
    level, handler = logger.level, RichHandler(show_path=False)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
