"""AutoLip (Virmaux & Scaman 2018, arXiv 1805.10965): layer constants along the computation graph.

L_k = sum_i max ||d_i g_k|| L_i over the inputs i of node k (algorithm 1), with the norm of an affine node by the power
method on its automatic derivative, v <- grad 1/2 ||A v||^2, normalised (algorithm 2). It needs forward and derivative
only, so it takes any affine layer, residual sums and concatenations included. An estimate: the power method converges
from below, and activations that are not known have their slope sampled.

With ``certified`` the constants are those of `certlip.norms`, for layers that have one, sums and concatenations. A
chain then has a certificate. Of another graph the value stays an estimate: its layers are proved, but its wiring is
read off a trace, and a certificate would have to carry the graph and prove that it computes what the module computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import PositiveInt

from certlip import norms
from certlip.certificate import UpperCertificate
from certlip.errors import UnsupportedLayer
from certlip.methods import Bound, MethodInfo
from certlip.network import Activation, MaxPool, Shape
from certlip.record import Kind
from certlip.rounding import multiply_up, up

if TYPE_CHECKING:
    from torch import nn

    from certlip.graph import Node

INFO = MethodInfo(
    "AutoLip", Kind.ESTIMATE, "Virmaux & Scaman 2018, arXiv 1805.10965", takes="module", imports=("certlip.node_norms",)
)

_SUMS = ("add", "iadd", "sub", "isub")
_JOINS = ("cat", "concat")
_SCALINGS = ("mul", "imul", "neg")


def bound(
    module: nn.Module, input_shape: Shape, *, n_iter: PositiveInt = 100, certified: bool = False, seed: int = 0
) -> Bound:
    """The constant of the graph's output.

    n_iter: steps of the power method, for each input of each affine node; certified: certified layer constants instead.
    Raises UnsupportedLayer naming a node that is neither affine nor elementwise nor a known layer.
    """
    from certlip.graph import lipschitz

    if certified:
        return _certified(module, input_shape)
    estimate = _Estimate(n_iter, seed)
    value = lipschitz(module, input_shape, estimate, seed)
    return Bound(value, details={"n_iter": n_iter, "seed": seed, "sampled_slopes": estimate.sampled_slopes})


def _certified(module: nn.Module, input_shape: Shape) -> Bound:
    from certlip.export import export_network
    from certlip.graph import lipschitz

    try:
        network = export_network(module, input_shape)
    except UnsupportedLayer:
        value = lipschitz(module, input_shape, _certified_constants, seed=0)
        reason = "the layers' constants are proved, but the graph is not a chain and its wiring has no certificate"
        return Bound(value, kind=Kind.ESTIMATE, reason=reason)
    certificate = UpperCertificate.from_constants(network, norms.layer_constants(network))
    return Bound(certificate.value, certificate, kind=Kind.CERTIFIED)


def _certified_constants(node: Node) -> list[float]:
    if _is_sum(node):
        return [1.0] * len(node.inputs)
    if _is_scaling(node):
        return [up(float(node.call(node.inputs[0].new_ones(node.inputs[0].shape)).abs().max()))]
    shape = tuple(node.inputs[0].shape[1:])
    factors = []
    for layer in node.layers():
        factors.append(norms.layer_constant(layer, shape))
        shape = layer.output_shape(shape)
    return [multiply_up(factors)]


def _is_sum(node: Node) -> bool:
    """Whether each entry of each input stands in the output once, with a factor of plus or minus one."""
    return (node.operation in _JOINS and not node.repeated) or (
        node.operation in _SUMS and _is_whole(node) and "alpha" not in node.options
    )


def _is_scaling(node: Node) -> bool:
    """Whether the node multiplies each entry by a constant."""
    return node.operation in _SCALINGS and _is_whole(node) and len(node.inputs) == 1


def _is_whole(node: Node) -> bool:
    """Whether each input stands in the call once, and is not broadcast."""
    return not node.repeated and all(x.shape == node.output.shape for x in node.inputs)


class _Estimate:
    """Constants as published: closed form for known activations and max pooling, power method for affine nodes."""

    def __init__(self, n_iter: int, seed: int) -> None:
        self.n_iter = n_iter
        self.seed = seed
        self.sampled_slopes: dict[str, float] = {}

    def __call__(self, node: Node) -> Sequence[float]:
        from certlip import node_norms

        if (known := _closed_form(node)) is not None:
            return [known]
        if node_norms.is_affine(node):
            return [node_norms.power_method(node, i, self.n_iter, self.seed) for i in range(len(node.inputs))]
        if (slope := node_norms.sampled_slope(node)) is not None:
            self.sampled_slopes[node.name] = slope
            return [slope]
        raise node.refused()


def _closed_form(node: Node) -> float | None:
    """Constant of an activation or max pooling that the suite knows."""
    try:
        layers = node.layers()
    except UnsupportedLayer:
        return None
    if len(layers) != 1 or not isinstance(layers[0], Activation | MaxPool):
        return None
    return norms.layer_constant(layers[0], tuple(node.inputs[0].shape[1:]))
