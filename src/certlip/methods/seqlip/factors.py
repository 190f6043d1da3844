"""Layers as products W = F G + E, which SeqLip cuts between F and G: exactly by definition, or truncated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy

from certlip.base.rounding import add_up, multiply_up
from certlip.network import Array
from certlip.network.chain import Chain, frobenius_norm, multiply
from certlip.proof.matrix_norm import matrix_norm


@dataclass(frozen=True, eq=False)
class Factors:
    """W ~ F G; f: (n_out, k), g: (k, n_in)."""

    f: Array
    g: Array


def factorise(
    layers: Sequence[Array | scipy.sparse.linalg.LinearOperator], rank: int | None, seed: int
) -> list[Factors]:
    """Singular value decompositions W_i = U S V', cut as in SeqLip: S goes inside at both ends, else half to each side.

    F_0 = U S, G_0 = V'; F_i = U sqrt(S), G_i = sqrt(S) V'; F_L = U, G_L = S V'. rank: number of the largest singular
    triples to keep, None for all.
    """
    found = []
    for i, layer in enumerate(layers):
        u, s, vt = _decompose(layer, rank, seed)
        share = 1.0 if i == 0 else 0.0 if i == len(layers) - 1 else 0.5
        found.append(Factors(u * s**share, s[:, None] ** (1 - share) * vt))
    return found


def residual(chain: Chain, factors: Sequence[Factors]) -> float:
    """What the product of the F_i G_i may lack of the product of the W_i, whatever the gates, rounded up.

    With E_i = W_i - F_i G_i of norm e_i, telescoping gives at most sum_i e_i prod_{j != i} (||W_j|| + 2 e_j).
    """
    errors, larger = [], []
    for weight, radius, cut in zip(chain.weights, chain.radii, factors, strict=True):
        product, rounding = multiply(cut.f, cut.g)
        distance = np.abs(weight - product) * (1 + 1e-15) + rounding + (0.0 if radius is None else radius)
        errors.append(frobenius_norm(distance * (1 + 1e-15)))
        larger.append(add_up([matrix_norm(weight, radius), 2 * errors[-1]]))
    return add_up(multiply_up([error, *larger[:i], *larger[i + 1 :]]) for i, error in enumerate(errors))


def _decompose(
    layer: Array | scipy.sparse.linalg.LinearOperator, rank: int | None, seed: int
) -> tuple[Array, Array, Array]:
    """U (n_out, k), singular values (k,) and V' (k, n_in)."""
    if rank is None or rank >= min(layer.shape) - 1:
        u, s, vt = np.linalg.svd(_materialise(layer), full_matrices=False)
        return u[:, :rank], s[:rank], vt[:rank]
    n_out, n_in = layer.shape
    rng = np.random.default_rng(seed)
    if not (layer @ rng.standard_normal(n_in)).any():
        return np.zeros((n_out, 1)), np.zeros(1), np.zeros((1, n_in))
    return scipy.sparse.linalg.svds(layer, k=rank, tol=1e-4, v0=rng.standard_normal(min(n_out, n_in)))


def _materialise(layer: Array | scipy.sparse.linalg.LinearOperator) -> Array:
    """The matrix of a layer one of whose sides is small."""
    if isinstance(layer, np.ndarray):
        return layer
    n_out, n_in = layer.shape
    return layer.rmatmat(np.eye(n_out)).T if n_out < n_in else layer.matmat(np.eye(n_in))
