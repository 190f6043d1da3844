"""Newton's method along the central path of LipSDP: min rho - mu log det P(rho, T) for a falling mu."""

from __future__ import annotations

import logging
import math
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from certlip.base.deadline import Deadline
from certlip.sdp.structured.barrier import Spectrum
from certlip.sdp.structured.outcome import Outcome, Report, unheard
from certlip.sdp.structured.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor

log = logging.getLogger(__name__)

START = 0.25
"""The first mu, in units of rho / order."""
REDUCTION = 0.1
"""mu falls by this factor each time the centre is near."""
NEAR = 0.5
"""Newton decrement under which the centre is near."""
REGULARISATIONS = (0.0, 1e-14, 1e-12, 1e-10)
MAX_ITERATIONS = 60


class Model:
    """Second-order model of the barrier at a point, and the Newton steps of all mu at once.

    The step to the centre of mu is v_1 - v_2 / mu with M v_1 = gradient, M v_2 = (1, 0, ..., 0).
    """

    def __init__(self, problem: Problem, x: Tensor) -> None:
        import torch

        self.problem, self.x = problem, x
        self.p = problem.matrix(x)
        factor = torch.linalg.cholesky(self.p)
        gradient, m = problem.derivatives(torch.cholesky_inverse(factor), x)
        target = torch.zeros_like(x)
        target[0] = 1
        solutions = torch.cholesky_solve(torch.stack([gradient, target], dim=1), _regularised_cholesky(m))
        self.v_1, self.v_2 = solutions[:, 0], solutions[:, 1]
        self.g_v1, self.g_v2 = float(gradient @ self.v_1), float(gradient @ self.v_2)
        self.c_v2 = float(self.v_2[0])

    @property
    def nearest_mu(self) -> float:
        """The mu whose centre is nearest."""
        return self.c_v2 / self.g_v2

    def step(self, mu: float) -> Tensor:
        return self.v_1 - self.v_2 / mu

    def decrement(self, mu: float) -> float:
        """Distance to the centre of mu in the local norm."""
        return math.sqrt(max(self.g_v1 - 2 * self.g_v2 / mu + self.c_v2 / mu**2, 0.0))

    def lower(self, mu: float) -> float:
        """Dual bound on rho: Z = mu (X - X dP X) satisfies all equations, so it is one if P - dP >= 0."""
        import torch

        step = self.step(mu)
        guarded = self.problem.guarded and bool((step[1:] > self.x[1:]).any())
        if guarded or int(torch.linalg.cholesky_ex(self.p - self.problem.linear(step)).info) > 0:
            return -math.inf
        return float(self.x[0]) - mu * (self.problem.barrier_degree - self.g_v1) - self.g_v2


def follow(
    problem: Problem,
    multipliers: Tensor,
    rtol: float,
    deadline: Deadline = Deadline(),  # noqa: B008, frozen
    lower: float = -math.inf,
    report: Report = unheard,
) -> Outcome:
    """Follow the central path from strictly feasible multipliers, (m,), to a relative gap of rtol.

    lower: a dual bound already known; deadline: no step is begun that would end after it, going by the longest one;
    report: told each point.
    """
    import torch

    longest, begin = 0.0, time.monotonic()
    spectrum = Spectrum(problem, multipliers)
    mu = START * float(spectrum.eigenvalues[-1]) / problem.barrier_degree
    x = _joined(spectrum.minimise(mu)[0], multipliers)
    for iteration in range(1, MAX_ITERATIONS + 1):
        outcome = Outcome(x[1:], float(x[0]), lower, iteration)
        try:
            model = Model(problem, x)
        except torch.linalg.LinAlgError:
            return replace(outcome, message="the system is singular to working precision")
        lower = max(lower, *(model.lower(m) for m in (mu, mu / 2, model.nearest_mu, model.nearest_mu / 2)))
        outcome, decrement = replace(outcome, lower=lower), model.decrement(mu)
        log.info(
            "step %3d  rho %.9g  gap %.1e  mu %.1e  decrement %.2g",
            iteration,
            x[0],
            outcome.gap,
            mu,
            decrement,
        )
        if outcome.gap <= rtol:
            return outcome
        report(partial(replace, outcome))
        longest, begin = max(longest, time.monotonic() - begin), time.monotonic()
        if not deadline.allows(longest):
            return replace(outcome, status="time_limit")
        if decrement < NEAR:
            mu *= REDUCTION
        moved = _search(problem, x, model.step(mu), mu)
        if torch.equal(moved, x):
            return replace(outcome, message="no further progress in working precision")
        x = moved
    return replace(outcome, message="iteration limit")


def _regularised_cholesky(m: Tensor) -> Tensor:
    """Cholesky factor of m, its diagonal enlarged by as little as makes it definite."""
    import torch

    diagonal = m.diagonal().clone()
    for share in REGULARISATIONS:
        m.diagonal().copy_((1 + share) * diagonal)
        factor, info = torch.linalg.cholesky_ex(m)
        if int(info) == 0:
            return factor
    raise torch.linalg.LinAlgError("the Newton system is not positive definite")


def _search(problem: Problem, x: Tensor, step: Tensor, mu: float) -> Tensor:
    """Halve the step in T until the barrier without rho falls; where it never does, only rho moves."""
    rho, value = Spectrum(problem, x[1:]).minimise(mu)
    length = 1.0
    while length > 1e-8:
        multipliers = x[1:] + length * step[1:]
        spectrum = Spectrum(problem, multipliers)
        if spectrum.feasible:
            following_rho, following = spectrum.minimise(mu)
            if following < value:
                return _joined(following_rho, multipliers)
        length /= 2
    return _joined(rho, x[1:])


def _joined(rho: float, multipliers: Tensor) -> Tensor:
    import torch

    return torch.cat([multipliers.new_tensor([rho]), multipliers])
