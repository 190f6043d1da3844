"""This suite's layer constant: Gram iteration until it is tight, then a proof by Cholesky (`certlip.norms`)."""

from __future__ import annotations

from certlip import norms
from certlip.layer_norms import LayerNormInfo
from certlip.network import Conv, Shape
from certlip.record import Kind

INFO = LayerNormInfo("certlip", Kind.CERTIFIED, "this suite")


def norm(layer: Conv, shape: Shape) -> float:
    """The constant that `product` and `dcp` use."""
    return norms.layer_constant(layer, shape)
