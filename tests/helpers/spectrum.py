"""The matrices of a convolution on a torus, of all frequencies at once."""

from __future__ import annotations

import numpy as np

from certlip.network import Conv, Pair
from certlip.proof import torus
from certlip.proof.torus import Spectrum


def matrices(layer: Conv, side: Pair) -> Spectrum:
    """(n_frequencies * groups, c_out / groups, strides * c_in / groups)."""
    real, imaginary = (np.concatenate(parts) for parts in zip(*torus.chunks(layer, side), strict=True))
    return real + 1j * imaginary
