"""Our own solver, for LipSDP alone: ascent on the low-rank dual, Newton's method where that stalls."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np

from certlip.base.deadline import Deadline
from certlip.base.errors import LimitExceeded, SolverUnavailable
from certlip.base.limits import memory_left_mb
from certlip.network.slopes import NARROW
from certlip.proof.lmi import Lmi
from certlip.proof.proposals import start
from certlip.sdp.looks import RESERVE, Looks
from certlip.sdp.solvers import Proposal, SolverInfo
from certlip.sdp.solvers._conic import missing
from certlip.sdp.structured.neurons import Neurons
from certlip.sdp.threads import by_size

if TYPE_CHECKING:
    from certlip.sdp.structured.outcome import Outcome, Report
    from certlip.sdp.structured.problem import Problem

INFO = SolverInfo(
    title="structured (certlip)",
    preference=0,
    max_order=1_000_000,
    version=lambda: version("certlip"),
    anytime=True,
)

N_WEIGHTS, N_BLOCKS = 7, 4
"""Copies of all weights, and matrices of the order of the widest layer, alive at the peak of the ascent."""
N_MATRICES = 14
"""Dense matrices of the LMI's order alive at the peak of a Newton step."""

NEWTON_WORK = 6
"""Multiplications of a Newton step, in units of order^3."""
LARGEST_AT_ONCE = 2000
"""Order up to which the multipliers of the start take no time that matters."""

NARROW_GAP = 4 * NARROW
"""Of a layer where some neurons carry their values: half of it by their slopes, half by the rounding of the proof."""

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
    report: Callable[[Callable[[], Proposal]], None] | None = None,
) -> Proposal:
    """Multipliers whose rho is within rtol of the optimum, strictly feasible at any time.

    device: ``cpu`` or ``cuda``, of sweeps and Newton steps; proofs of a gap are made by the processor; verbose: print a
    line an iteration; report: told the best proposal so far, proved or only likely. Proposal.iterations counts rounds
    of the ascent (10 sweeps, then 1.3 times more each) and Newton steps. Those are left out where this process may not
    take the memory: what the ascent found by then is proposed.
    Raises SolverUnavailable for a CUDA device that is not there, LimitExceeded where nothing can be proved in time.
    """
    import torch

    from certlip.sdp.structured.problem import Problem

    if device != "cpu" and not torch.cuda.is_available():
        raise SolverUnavailable(f"solver structured: torch finds no {device} device here; use device='cpu'")
    deadline = Deadline.after(max_seconds)
    if not lmi.slopes:
        return Proposal((), 0, "nothing to choose")
    neurons = Neurons.of(lmi.weights, lmi.slopes)
    if not neurons.n_kept:
        return Proposal(neurons.restore(np.zeros(0)), 0, "no neuron matters")
    # rows of norm one hand their size on to the last weight, and the ascent takes its fourth power
    last = neurons.weights[-1]
    divisor = 2.0 ** int(np.frexp(np.abs(last).max())[1])
    neurons = replace(neurons, weights=(*neurons.weights[:-1], last / divisor))
    n_threads = torch.get_num_threads()
    torch.set_num_threads(threads)

    def told(make: Callable[[], Outcome]) -> None:
        if report:
            report(lambda: _proposal(neurons, make(), divisor))

    try:
        problem = Problem(neurons.weights, neurons.slopes, device)
        with _logged(verbose), by_size(lmi):
            outcome = _solve(problem, neurons, rtol, deadline, told)
    finally:
        torch.set_num_threads(n_threads)
    return _proposal(neurons, outcome, divisor)


def _proposal(neurons: Neurons, outcome: Outcome, divisor: float) -> Proposal:
    """divisor: of the last weight."""
    square = divisor * divisor
    multipliers = neurons.restore(square * outcome.multipliers.cpu().numpy())
    rho = square * outcome.rho if math.isfinite(outcome.rho) else None
    return Proposal(multipliers, outcome.iterations, outcome.message, outcome.status, rho, square * outcome.lower)


def _solve(problem: Problem, neurons: Neurons, rtol: float, deadline: Deadline, report: Report) -> Outcome:
    """Ascent, and Newton's method from where the ascent stalls."""
    from certlip.sdp.structured.newton import follow
    from certlip.sdp.structured.rounds import ascend

    found = ascend(problem, rtol, deadline, report)
    found = replace(found, message=f"{found.iterations} rounds of ascent, gap {found.gap:.1e}")
    late = found.status == "time_limit"
    # what slopes that are too narrow for their multipliers leave open is no gap that Newton's method closes
    if found.gap <= max(rtol, NARROW_GAP * problem.n_narrow) or (late and math.isfinite(found.rho)):
        return found
    if late and problem.order > LARGEST_AT_ONCE:
        raise LimitExceeded("time_limit", f"stopped after {found.iterations} rounds, before anything could be proved")
    first = problem.weights[-1].new_tensor(np.concatenate(start(Lmi(neurons.weights, neurons.slopes))))
    if not math.isfinite(found.rho):
        found = replace(found, multipliers=first)
    if late:
        return found
    if N_MATRICES * 8 * problem.order**2 / 2**20 > memory_left_mb():
        return replace(found, message=f"{found.message}; no memory for Newton's method")
    looks = Looks(problem.lmi)
    in_time = deadline.before(RESERVE * looks.seconds)
    if not in_time.allows(looks.predicted(NEWTON_WORK * problem.order**3)):
        return replace(found, status="time_limit", message=f"{found.message}; no time for Newton's method")
    # inside by a little: Newton's method crawls along the boundary otherwise
    inside = (1 - WARM_SHARE) * found.multipliers + WARM_SHARE * first
    newton = follow(problem, inside, rtol, in_time, found.lower, report)
    if problem.n_narrow:
        newton = replace(newton, lower=found.lower)
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
