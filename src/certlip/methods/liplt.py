"""LipLT: layer bounds after a loop transformation (Fazlyab, Entesari, Roy & Chellappa, NeurIPS 2023, arXiv 2310.00116).

With slopes of phi_i in [a_i, b_i], m_i = (a_i + b_i) / 2, r_i = (b_i - a_i) / 2, y_0 = W_0 x, y_i = W_i phi_i(y_{i-1}):

    L_0 = ||W_0||,    L_i = |m_1 ... m_i| ||W_i ... W_0|| + sum_{j=1..i} r_j |m_{j+1} ... m_i| ||W_i ... W_j|| L_{j-1}

Why it is a bound: phi_j(y) = m_j y + r_j psi_j(y) where psi_j has constant 1. Unrolling the m_j part of every layer
writes y_i as a linear map of x plus linear maps of psi_j(y_{j-1}), j = 1..i, and y_{j-1} has the constant L_{j-1}.
Since ||W_i ... W_j|| is at most the product of the norms, it is never above the product of dense norms.

Every norm is certified with the rounding made in forming the product (`certlip.network.chain`), every sum and product
is rounded up. Verification computes it again: it needs no solver and nothing but the weights.
"""

from __future__ import annotations

from collections.abc import Iterator

from certlip.base.record import Kind
from certlip.base.rounding import add_up, coarsen_up, multiply_up, up
from certlip.methods import Bound, MethodInfo
from certlip.network import Network
from certlip.network.chain import Chain, multiply
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
    for i in range(len(chain.weights)):
        terms, centres = [], 1.0
        for j, norm in _product_norms(chain, i):
            if j == 0:
                terms.append(multiply_up([centres, norm]))
                break
            a, b = chain.slopes[j - 1]
            terms.append(multiply_up([up((b - a) / 2), centres, norm, constants[j - 1]]))
            if a + b == 0:
                break
            centres = multiply_up([centres, up(abs(a + b) / 2)])
        constants.append(add_up(terms))
    return constants


def _product_norms(chain: Chain, i: int) -> Iterator[tuple[int, float]]:
    """(j, certified ||W_i ... W_j||) for j = i, i - 1, ..., 0."""
    product, radius = chain.weights[i], chain.radii[i]
    yield i, matrix_norm(product, radius)
    for j in range(i - 1, -1, -1):
        product, radius = multiply(product, chain.weights[j], radius, chain.radii[j])
        yield j, matrix_norm(product, radius)
