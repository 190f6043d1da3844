"""Gram iteration as published, five steps (Delattre et al. 2023, arXiv 2305.16173), rounded up."""

from __future__ import annotations

from certlip.base.record import Kind
from certlip.layer_norms import LayerNormInfo
from certlip.methods.gram import layer_norm
from certlip.network import Conv, Shape

INFO = LayerNormInfo("Gram iteration", Kind.CERTIFIED, "Delattre et al. 2023, arXiv 2305.16173")

_N_ITER = 5


def norm(layer: Conv, shape: Shape) -> float:
    """||G_5||_F^(1/32), the largest over frequencies."""
    return layer_norm(layer, shape, _N_ITER)
