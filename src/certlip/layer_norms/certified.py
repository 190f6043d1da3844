"""This suite's layer constant (`certlip.proof.norms`), proved by Cholesky: of the layer's own matrix where it is small,
else of its torus, by Gram iteration until it is tight."""

from __future__ import annotations

from certlip.base.record import Kind
from certlip.layer_norms import LayerNormInfo
from certlip.network import Conv, Shape
from certlip.proof import norms

INFO = LayerNormInfo("certlip", Kind.CERTIFIED, "this suite")


def norm(layer: Conv, shape: Shape) -> float:
    """The constant that `product` and `dcp` use."""
    return norms.layer_constant(layer, shape)
