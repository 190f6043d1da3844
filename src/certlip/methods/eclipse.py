"""ECLipsE: LipSDP multipliers by one small semidefinite program a layer (Xu & Sivaranjani 2024, arXiv 2404.04375).

With X_0 = I, for i = 1..L in turn: maximise c_i over c_i and diagonal Lambda_i >= 0 subject to

    [ Lambda_i - c_i W_i' W_i      Lambda_i W_{i-1} / 2 ]
    [ W_{i-1}' Lambda_i / 2        X_{i-1}              ]  >= 0,        L^2 <= rho = 1 / c_L

and X_i = Lambda_i - Lambda_i W_{i-1} X_{i-1}^-1 W_{i-1}' Lambda_i / 4: a layer chooses its multipliers knowing the
layers before it, and of those after it only the next weight.

Why it is a bound: as for ECLipsE-Fast (`certlip.methods.eclipse_fast`), the X_i are Schur complements of P(1, T) with
T_i = Lambda_i / 2, and `certify` proves what rho T is worth, whatever the programs returned. Divided by c_i, the
program is the LipSDP of one hidden layer z -> W_i phi(W_{i-1} z) in the metric X_{i-1}, with rho_i = 1 / c_i and
T = Lambda_i / (2 c_i): so any solver of this package solves it, for slopes in any [a, b].
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import numpy as np
import scipy
from pydantic import Field

from certlip import sdp
from certlip.base.errors import LimitExceeded
from certlip.base.record import Kind
from certlip.methods import Bound, MethodInfo
from certlip.methods._whole_chain import WholeChain
from certlip.methods.eclipse_fast import complete, schur_complement
from certlip.network import Array, Network
from certlip.proof.lmi import Lmi, Multipliers
from certlip.proof.proposals import smallest_rho
from certlip.sdp.solvers import SolverName

INFO = MethodInfo("ECLipsE", Kind.CERTIFIED, "Xu & Sivaranjani 2024, arXiv 2404.04375", imports=("torch",))

INWARDS = 1e-5
"""Share of the always feasible start point in what a program returns."""


def bound(
    network: Network,
    *,
    solver: SolverName = "auto",
    rtol: Annotated[float, Field(gt=0, lt=1)] = 1e-5,
    max_seconds: float | None = None,
    threads: int = 1,
) -> Bound:
    """The certified value of the multipliers that the L small programs propose.

    solver: of each program, ``auto`` or an adapter; rtol: relative gap asked of it.
    At max_seconds the layers that are left take the multipliers of ECLipsE-Fast, behind those before.
    Raises UnsupportedLayer by layer name, LimitExceeded for matrices too large, SolverUnavailable.
    """
    chain = WholeChain(network, max_seconds)
    programs = _Programs(solver, rtol, threads, chain)
    multipliers = programs.propose()
    n_solved = len(programs.solutions)
    described: dict[str, Any] = {"n_sdps": n_solved, "n_distinct_sdps": n_solved}
    if programs.solutions:
        last = programs.solutions[-1]
        described |= {"solver": last.solver, "solver_version": last.solver_version}
    reason = f"the time limit of {max_seconds:g} s cut it short: {programs.left_to_fast()}" if programs.late else ""
    return chain.bound(multipliers, reason, **described)


class _Programs:
    """The small programs of one network, solved in order until the deadline of its chain."""

    def __init__(self, solver: str, rtol: float, threads: int, chain: WholeChain) -> None:
        self.solver, self.rtol, self.threads, self.chain = solver, rtol, threads, chain
        self.solutions: list[sdp.Solution] = []
        self.late = False

    def propose(self) -> Multipliers:
        """T_i = rho Lambda_i / 2."""
        lmi = self.chain.lmi
        lambdas: list[Array] = []
        metric, rho = np.eye(lmi.sizes[0]), 1.0
        for weight, after, slopes in zip(lmi.weights, lmi.weights[1:], lmi.slopes, strict=False):
            so_far = partial(complete, lmi, list(lambdas), metric)
            self.chain.report(so_far, self.left_to_fast())
            root = scipy.linalg.cholesky(metric, lower=True)
            scaled = scipy.linalg.solve_triangular(root, weight.T, lower=True).T
            solved = self._solve(Lmi((scaled, after), (slopes,)))
            if solved is None:
                self.late = True
                return so_far()
            rho, multipliers = solved
            lambdas.append(2 * multipliers / rho)
            metric = schur_complement(scaled @ scaled.T, lambdas[-1], slopes)
        return tuple(rho * x / 2 for x in lambdas)

    def left_to_fast(self) -> str:
        """Which layers have no program's multipliers."""
        n_solved, n_layers = len(self.solutions), len(self.chain.lmi.slopes)
        return f"the multipliers of hidden layers {n_solved + 1} to {n_layers} are those of ECLipsE-Fast"

    def _solve(self, lmi: Lmi) -> tuple[float, Array] | None:
        """A point of one program, moved inside by `INWARDS`: X_i must stay definite where W_i does not look.

        None where there is no time for it.
        """
        deadline = self.chain.deadline
        try:
            if not deadline.allows(0):
                return None
            solution = sdp.solve_lmi(lmi, self.solver, self.rtol, self.threads, deadline.max_seconds)
        except LimitExceeded as refusal:
            if refusal.status != "time_limit":
                raise
            return None
        self.solutions.append(solution)
        (anchor,) = sdp.start(lmi)
        highest = smallest_rho(lmi, (anchor,))
        if highest is None:
            return solution.rho, solution.multipliers[0]
        return (
            solution.rho + INWARDS * (highest - solution.rho),
            solution.multipliers[0] + INWARDS * (anchor - solution.multipliers[0]),
        )
