"""Our own solver: an interior-point method for LipSDP alone, dense torch linear algebra, CPU or GPU."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np

from certlip.sdp.certify import start
from certlip.sdp.lmi import Lmi
from certlip.sdp.solvers import Proposal, SolverInfo
from certlip.sdp.structured.neurons import Neurons

INFO = SolverInfo(
    title="structured (certlip)",
    licence="BSD-3-Clause",
    preference=0,
    max_order=20_000,
    version=lambda: version("certlip"),
)

N_MATRICES = 14
"""Dense matrices of the LMI's order alive at the peak of an iteration."""


def unavailable() -> str | None:
    """Why it cannot run here, None if it can."""
    return None


def memory_mb(lmi: Lmi) -> float:
    """Predicted peak memory of `solve`, torch included."""
    return 300.0 + N_MATRICES * 8 * lmi.order**2 / 2**20


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

    device: ``cpu`` or ``cuda``; verbose: log a line an iteration.
    """
    import torch

    from certlip.sdp.structured.newton import follow
    from certlip.sdp.structured.problem import Problem

    if not lmi.slopes:
        return Proposal((), 0, "nothing to choose")
    neurons = Neurons.of(lmi.weights, lmi.slopes)
    if not neurons.n_kept:
        return Proposal(neurons.restore(np.zeros(0)), 0, "no neuron matters")
    n_threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        problem = Problem(neurons.weights, neurons.slopes, device)
        first = start(Lmi(neurons.weights, neurons.slopes))
        multipliers = torch.tensor(np.concatenate(first), dtype=torch.float64, device=device)
        outcome = follow(problem, multipliers, rtol, max_seconds, verbose)
    finally:
        torch.set_num_threads(n_threads)
    multipliers = neurons.restore(outcome.x[1:].cpu().numpy())
    return Proposal(multipliers, outcome.iterations, outcome.message, outcome.status, float(outcome.x[0]))
