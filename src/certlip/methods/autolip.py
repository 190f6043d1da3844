"""AutoLip (Virmaux & Scaman 2018, arXiv 1805.10965): layer constants along the computation graph.

L_k = sum_i max ||d_i g_k|| L_i over the inputs i of node k (algorithm 1), with the norm of an affine node by the power
method on its automatic derivative, v <- grad 1/2 ||A v||^2, normalised (algorithm 2). It needs forward and derivative
only, so it takes any affine layer, residual sums and concatenations included. An estimate: the power method converges
from below, and activations that are not known have their slope sampled.

With ``certified`` the constants are those of `certlip.proof.norms`, for layers that have one, and the largest factors
of sums; a concatenation adds its inputs. The certificate carries the exported network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from certlip.base.errors import ExportError, NotCertified, UnsupportedLayer
from certlip.base.record import Kind
from certlip.methods import Bound, MethodInfo
from certlip.methods.product import best_product
from certlip.network import COUPLED, Activation, Maximum, Shape
from certlip.proof import norms

if TYPE_CHECKING:
    from torch import nn

    from certlip.pytorch.graph import Node

INFO = MethodInfo(
    "AutoLip",
    Kind.ESTIMATE,
    "Virmaux & Scaman 2018, arXiv 1805.10965",
    takes="module",
    imports=("certlip.pytorch.node_norms", "certlip.pytorch.export"),
)


def bound(
    module: nn.Module, input_shape: Shape, *, n_iter: PositiveInt = 100, certified: bool = False, seed: int = 0
) -> Bound:
    """The constant of the graph's output.

    n_iter: steps of the power method, for each input of each affine node; certified: certified layer constants instead.
    Raises UnsupportedLayer naming a node that is neither affine nor elementwise nor a known layer, or whose derivative
    does not describe it; NotCertified if the constant overflows.
    """
    from certlip.pytorch.export import export_network
    from certlip.pytorch.graph import lipschitz

    if certified:
        try:
            network = export_network(module, input_shape)
        except ExportError as error:
            raise UnsupportedLayer(str(error)) from error
        result = replace(best_product(network), kind=Kind.CERTIFIED)
    else:
        estimate = _Estimate(n_iter, seed)
        value = lipschitz(module, input_shape, estimate, seed)
        result = Bound(value, details={"n_iter": n_iter, "seed": seed, "sampled_slopes": estimate.sampled_slopes})
    if not math.isfinite(result.value):
        raise NotCertified("the product of the constants along the graph overflows; rescale the weights")
    return result


class _Estimate:
    """Constants as published: closed form for known activations and max pooling, power method for affine nodes."""

    def __init__(self, n_iter: int, seed: int) -> None:
        self.n_iter = n_iter
        self.seed = seed
        self.sampled_slopes: dict[str, float] = {}

    def __call__(self, node: Node) -> Sequence[float]:
        from certlip.pytorch.tracing import first_line

        try:
            return self._constants(node)
        except UnsupportedLayer:
            raise
        except RuntimeError as error:  # torch's, where a function has no derivative or takes no samples
            raise node.refused(f" ({first_line(error)})") from error

    def _constants(self, node: Node) -> Sequence[float]:
        from certlip.pytorch import node_norms

        if (known := _closed_form(node)) is not None:
            return known
        node_norms.expect_derivative(node)
        if node_norms.is_affine(node):
            return [node_norms.power_method(node, i, self.n_iter, self.seed) for i in range(len(node.inputs))]
        if (slope := node_norms.sampled_slope(node)) is not None:
            self.sampled_slopes[node.name] = slope
            return [slope]
        raise node.refused()


def _closed_form(node: Node) -> list[float] | None:
    """Constants of a maximum of several values, or of an activation, pooling, sorting or softmax that the suite knows,
    what it moves entries by included."""
    from certlip.pytorch.export import layers_of

    try:
        layers = layers_of(node)
    except UnsupportedLayer:
        return None
    if any(isinstance(layer, Maximum) for layer in layers):
        return [1.0] * len(node.inputs)
    if not any(isinstance(layer, (Activation, *COUPLED)) for layer in layers):
        return None
    product, shape = 1.0, tuple(node.inputs[0].shape[1:])
    for layer in layers:
        product, shape = product * norms.layer_constant(layer, shape), layer.output_shape(shape)
    return [product]
