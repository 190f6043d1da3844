"""Singular values frequency by frequency (Sedghi, Gupta & Long 2019, arXiv 1805.10408).

Exact for circular convolutions, at or above the norm for zero padding, up to rounding: LAPACK's is not accounted for,
so the value is an estimate.
"""

from __future__ import annotations

import numpy as np

from certlip.base.record import Kind
from certlip.layer_norms import LayerNormInfo
from certlip.network import Conv, Shape
from certlip.proof import torus

INFO = LayerNormInfo("SVD per frequency", Kind.ESTIMATE, "Sedghi, Gupta & Long 2019, arXiv 1805.10408")


def norm(layer: Conv, shape: Shape) -> float:
    """The largest singular value over the frequencies of the layer's torus."""
    return max(
        float(np.linalg.svd(real + 1j * imaginary, compute_uv=False).max())
        for real, imaginary in torus.chunks(layer, torus.size(layer, shape))
    )
