"""Power iteration on the convolution itself (Ryu et al. 2019, arXiv 1905.05406, section 5): v <- K' K v, normalised.

The only rival that sees the zero padding exactly. It converges from below: an estimate.
"""

from __future__ import annotations

import torch

from certlip.base.record import Kind
from certlip.layer_norms import LayerNormInfo
from certlip.network import Conv, Network, Shape
from certlip.network.scaling import multiply_back
from certlip.pytorch import jacobian

INFO = LayerNormInfo("Power iteration", Kind.ESTIMATE, "Ryu et al. 2019, arXiv 1905.05406")

_N_ITER = 50
_SEED = 0


def norm(layer: Conv, shape: Shape) -> float:
    """|K v| after 50 steps from a seeded normal start."""
    start = torch.randn(1, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(_SEED))
    network = jacobian.Rescaled.of(Network((layer,), shape))
    norms, _ = jacobian.spectral_norms(jacobian.linearise(network, start), start, _N_ITER)
    return multiply_back(float(norms[0]), (network.exponent,))
