"""LipLT: layer bounds after a loop transformation (Fazlyab, Entesari, Roy & Chellappa, NeurIPS 2023, arXiv 2310.00116).

With slopes of phi_i in [a_i, b_i], m_i = (a_i + b_i) / 2, r_i = (b_i - a_i) / 2, y_0 = W_0 x, y_i = W_i phi_i(y_{i-1}):

    L_0 = ||W_0||,    L_i = |m_1 ... m_i| ||W_i ... W_0|| + sum_{j=1..i} r_j |m_{j+1} ... m_i| ||W_i ... W_j|| L_{j-1}

Where the neurons of a layer have different slopes, m_j and r_j are diagonal matrices at their place in the product:
||W_i m_i ... m_1 W_0|| and ||W_i m_i ... W_j r_j||.

Why it is a bound: phi_j(y) = m_j y + r_j psi_j(y) where psi_j has constant 1. Unrolling the m_j part of every layer
writes y_i as a linear map of x plus linear maps of psi_j(y_{j-1}), j = 1..i, and y_{j-1} has the constant L_{j-1}.
Since ||W_i ... W_j|| is at most the product of the norms, it is never above the product of dense norms. Behind slopes
that differ it might be: there L_i is at most the steepest of phi_i times ||W_i|| L_{i-1}.

Every norm is certified with the rounding made in forming the product (`certlip.network.chain`), every sum and product
is rounded up. Verification computes it again: it needs no solver and nothing but the weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from certlip.base.record import Kind
from certlip.base.rounding import add_up, coarsen_up, multiply_up, up
from certlip.methods import Bound, MethodInfo
from certlip.network import Array, Network
from certlip.network.chain import Chain, multiply, scale
from certlip.network.slopes import Slope, steepest
from certlip.proof.certificate import UpperCertificate
from certlip.proof.matrix_norm import matrix_norm

INFO = MethodInfo("LipLT", Kind.CERTIFIED, "Fazlyab et al. 2023, arXiv 2310.00116")


def bound(network: Network) -> Bound:
    """The recursion's L_L, rounded up.

    Raises UnsupportedLayer by layer name, LimitExceeded where a dense matrix would be too large, NotCertified.
    """
    chain = Chain.of(network)
    constants = _constants(chain)
    value = coarsen_up(multiply_up([chain.scale, constants[-1]]))
    return Bound(value, UpperCertificate.recomputed(network, "liplt", {}, value))


def _constants(chain: Chain) -> list[float]:
    """L_0..L_L."""
    constants: list[float] = []
    for i, (weight, radius) in enumerate(zip(chain.weights, chain.radii, strict=True)):
        constants.append(add_up(_terms(chain, i, constants)))
        if any(np.ndim(a) for a, _ in chain.slopes[:i]):
            alone = multiply_up([matrix_norm(weight, radius), steepest(chain.slopes[i - 1]), constants[i - 1]])
            constants[i] = min(constants[i], alone)
    return constants


def _terms(chain: Chain, i: int, constants: Sequence[float]) -> Iterator[float]:
    """Those of L_i, constants: L_0..L_{i-1}."""
    product, radius, centres = chain.weights[i], chain.radii[i], 1.0
    for j in range(i, 0, -1):
        a, b = chain.slopes[j - 1]
        if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
            m, r = _enclosed(a, b)
            yield multiply_up([centres, matrix_norm(*scale(product, r, radius)), constants[j - 1]])
            product, radius = scale(product, m, radius)
            is_centred = not m.any()
        else:
            yield multiply_up([up((b - a) / 2), centres, matrix_norm(product, radius), constants[j - 1]])
            is_centred = a + b == 0
            centres = multiply_up([centres, up(abs(a + b) / 2)])
        if is_centred:
            return
        product, radius = multiply(product, chain.weights[j - 1], radius, chain.radii[j - 1])
    yield multiply_up([centres, matrix_norm(product, radius)])


def _enclosed(a: Slope, b: Slope) -> tuple[Array, Array]:
    """m and r with [a, b] in m +- r; r is zero for a = b only."""
    m = np.asarray((a + b) / 2)
    r = np.maximum(b - m, m - a)
    return m, np.where(r == 0, 0.0, np.nextafter(r, np.inf))
