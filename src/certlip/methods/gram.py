"""Product of layer norms by Gram iteration (Delattre et al. 2023, arXiv 2305.16173; zero padding: arXiv 2402.00240).

Each convolution and dense layer by `certlip.proof.gram_iteration`, convolutions on the torus of `certlip.proof.torus`,
which covers zero padding, stride, groups and dilation; the other layers as in `certlip.proof.norms`. Certified: no step
can fall below the exact norm, rounding included, and each constant is proved once more, by Cholesky, for the
certificate.
"""

from __future__ import annotations

from functools import partial

from pydantic import NonNegativeInt

from certlip.base.record import Kind
from certlip.base.rounding import up
from certlip.methods import Bound, MethodInfo
from certlip.methods.product import best_product
from certlip.network import LINEAR, Conv, Layer, Linear, Network, Pair, Shape
from certlip.proof import norms, torus
from certlip.proof.gram_iteration import Parts, gram_norm
from certlip.proof.padded import Padded

INFO = MethodInfo("Gram iteration", Kind.CERTIFIED, "Delattre et al. 2023, arXiv 2305.16173", graphs=True)


def bound(network: Network, *, n_iter: NonNegativeInt = 5) -> Bound:
    """The product over layers, joined along a graph, rounded up.

    n_iter: Gram steps; each doubles the power, the overestimate shrinks like rank^(2^-(n_iter + 1)).
    Raises UnsupportedLayer by layer name.
    """
    return best_product(network, partial(_constant, n_iter=n_iter))


def layer_norm(layer: Linear, shape: Shape, n_iter: int) -> float:
    """Certified bound on the spectral norm of a convolution on inputs of `shape`, or of another layer's weight."""
    if not isinstance(layer, Conv):
        return gram_norm(Parts(layer.weight[None]), n_iter)
    return _torus_norm(layer, torus.size(layer, shape), n_iter)


def _torus_norm(layer: Conv, sides: Pair, n_iter: int) -> float:
    largest = max(gram_norm(Parts(*chunk), n_iter) for chunk in torus.chunks(layer, sides))
    return up(largest + torus.rounding_error(layer)) if largest else 0.0


def _constant(layer: Layer | Padded, shape: Shape, n_iter: int) -> float:
    if isinstance(layer, Padded) and (around := layer.circular(shape)):
        return norms.provable(layer, shape, _torus_norm(*around, n_iter))
    if not isinstance(layer, LINEAR):
        return norms.layer_constant(layer, shape)
    return norms.provable(layer, shape, layer_norm(layer, shape, n_iter))
