"""The smoothed objective of the structured solver, with rho eliminated.

The feasible set is curved: the top singular vector turns while the multipliers change, and a straight step in
(rho, T) runs into the boundary after a fraction of what the step in T alone allows. So rho is no variable of
the search: for each T it is the minimiser of rho / mu - log det P(rho, T), found from the eigenvalues of the
input block's Schur complement H(T), P >= 0 <=> S(T) > 0 and rho >= eig_max H(T).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from certlip.sdp.structured.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor


class Spectrum:
    """Eigenvalues of H(T) at one T and log det of the activation block S(T); `feasible`: whether S(T) > 0."""

    def __init__(self, problem: Problem, multipliers: Tensor) -> None:
        import torch

        self.n_0 = problem.n_0
        self.feasible = bool((multipliers > 0).all())
        if not self.feasible:
            return
        p = problem.matrix(torch.cat([multipliers.new_zeros(1), multipliers]))
        factor, info = torch.linalg.cholesky_ex(p[self.n_0 :, self.n_0 :])
        self.feasible = int(info) == 0
        if not self.feasible:
            return
        reduced = torch.linalg.solve_triangular(factor, p[self.n_0 :, : self.n_0], upper=False)
        head = reduced.T @ reduced - p[: self.n_0, : self.n_0]
        self.eigenvalues = torch.linalg.eigvalsh(head)
        self.log_det = 2 * float(factor.diagonal().log().sum())
        if problem.guarded:
            self.log_det += float(multipliers.log().sum())
        self.feasible = math.isfinite(self.log_det) and bool(self.eigenvalues.isfinite().all())

    def minimise(self, mu: float) -> tuple[float, float]:
        """(rho, value) of the minimum over rho of rho / mu - log det P(rho, T)."""
        top = float(self.eigenvalues[-1])
        low, high = top + mu, top + self.n_0 * mu
        rho = low
        for _ in range(100):
            # Newton on 1 / sum 1 / (rho - eigenvalues) = mu, which is nearly linear in rho
            weights = mu / (rho - self.eigenvalues)
            total = float(weights.sum())
            following = rho + (total - 1) * total * mu / float((weights**2).sum())
            following = min(max(following, low), high)
            if abs(following - rho) <= 1e-14 * abs(rho):
                break
            rho = following
        return rho, rho / mu - self.log_det - float((rho - self.eigenvalues).log().sum())
