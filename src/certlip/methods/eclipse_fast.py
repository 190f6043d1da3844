"""ECLipsE-Fast: LipSDP multipliers in closed form, layer by layer (Xu & Sivaranjani 2024, arXiv 2404.04375).

With X_0 = I and, for each hidden layer, S_i = W_{i-1} X_{i-1}^-1 W_{i-1}' and lambda_i = 2 / lambda_max(S_i),

    X_i = lambda_i I - (lambda_i^2 / 4) S_i,        L^2 <= rho = lambda_max(W_L X_L^-1 W_L')

Why it is a bound: the X_i are the Schur complements of the block tridiagonal P(1, T) of `certlip.proof.lmi` without its
last term, with T_i = lambda_i I / 2; all are positive definite, and so is P(rho, rho T). Hence it is never below
LipSDP-Layer. The closed form only proposes rho T: `certify` proves what the multipliers are worth.

Slopes in [a, b] other than ReLU's: with m = (a + b) / 2, r = (b - a) / 2, s = lambda_max(S_i),

    X_i = lambda_i I - m^2 lambda_i^2 S_i (I + a b lambda_i S_i)^-1,     lambda_i = 1 / (r (|m| + r) s)

where lambda_i maximises the smallest eigenvalue of X_i, which is then 1 / (max(|a|, |b|)^2 s) (our extension; ReLU is
the paper's case). Where the neurons of a layer differ, lambda_i, m and a b are diagonal matrices, and the eigenvalue
that of the steepest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy

from certlip.base.record import Kind
from certlip.methods import Bound, MethodInfo
from certlip.methods._whole_chain import WholeChain
from certlip.network import Array, Network
from certlip.network.slopes import Slope, Slopes, half_widths, middles
from certlip.proof.lmi import Lmi, Multipliers

INFO = MethodInfo("ECLipsE-Fast", Kind.CERTIFIED, "Xu & Sivaranjani 2024, arXiv 2404.04375")


def bound(network: Network) -> Bound:
    """The certified value of the closed-form multipliers.

    Raises UnsupportedLayer by layer name, LimitExceeded where the network's matrices would be too large.
    """
    chain = WholeChain(network)
    return chain.bound(propose(chain.lmi))


def propose(lmi: Lmi) -> Multipliers:
    """T_i = rho lambda_i / 2, constant where neurons are alike; rounding only costs tightness."""
    return complete(lmi, [], np.eye(lmi.sizes[0]))


def complete(lmi: Lmi, first: Sequence[Array], metric: Array) -> Multipliers:
    """The same behind layers whose Lambda_i are given, as vectors, with the X_i of the last of them."""
    lambdas = list(first)
    for weight, slopes in zip(lmi.weights[len(first) : -1], lmi.slopes[len(first) :], strict=True):
        s = seen_through(weight, metric)
        lambdas.append(np.broadcast_to(_steepness(s, slopes), len(s)).copy())
        metric = schur_complement(s, lambdas[-1], slopes)
    rho = largest_eigenvalue(seen_through(lmi.weights[-1], metric)) if lambdas else 0.0
    return tuple(rho * x / 2 for x in lambdas)


def seen_through(weight: Array, metric: Array) -> Array:
    """S = W X^-1 W'; weight: (m, n), metric: (n, n) positive definite."""
    half = scipy.linalg.solve_triangular(scipy.linalg.cholesky(metric, lower=True), weight.T, lower=True)
    return half.T @ half


def schur_complement(s: Array, diagonal: Array, slopes: Slopes) -> Array:
    """X_i from S_i and Lambda_i = diag(diagonal): Lambda - m Lambda S (I + a b Lambda S)^-1 m Lambda."""
    a, b = slopes
    if np.all(a + b == 0):
        return np.diag(diagonal)
    if np.ndim(a):
        m = (a + b) / 2
        coupled: Array = (m * diagonal)[:, None] * np.linalg.solve(np.eye(len(s)) + s * (a * b * diagonal), s) * m
    else:
        coupled = ((a + b) / 2) ** 2 * diagonal[:, None] * s
        if a * b:
            coupled[...] = np.linalg.solve(np.eye(len(s)) + a * b * diagonal[:, None] * s, coupled)
    x = np.diag(diagonal) - coupled * diagonal
    return (x + x.T) / 2


def largest_eigenvalue(s: Array) -> float:
    """Of a positive semidefinite matrix, to about 1e-6; at least 1e-30, so that zero layers need no case."""
    n = len(s)
    if n > 500:
        found = scipy.sparse.linalg.eigsh(s, k=1, v0=np.ones(n), tol=1e-6, return_eigenvectors=False)[0]
    else:
        found = np.linalg.eigvalsh(s)[-1]
    return max(float(found), 1e-30)


def _steepness(s: Array, slopes: Slopes) -> Slope:
    m, r = np.abs(middles(slopes)), half_widths(slopes)
    return 1 / (r * (m + r) * largest_eigenvalue(s))
