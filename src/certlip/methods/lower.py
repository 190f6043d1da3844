"""A lower bound attained at a point: the largest Jacobian norm found, |f'(x; v)| / |v| <= L for any x and v.

Candidates are data and random points at several scales. The best point and direction are the certificate:
`certlip.tangent.lower_at` computes the value again, rounded down.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from certlip.certificate import LowerCertificate
from certlip.methods import Bound, MethodInfo
from certlip.network import Array, Network
from certlip.record import Kind
from certlip.tangent import lower_at

if TYPE_CHECKING:
    from torch import Tensor

INFO = MethodInfo(
    "Largest Jacobian norm found", Kind.LOWER, "Jordan & Dimakis 2020, arXiv 2003.01219", imports=("certlip.jacobian",)
)

_SCALES = (0.1, 1.0, 10.0, 100.0)
_BATCH = 64


def bound(network: Network, *, n_points: int = 512, data: Any = None, seed: int = 0) -> Bound:
    """The largest of the Jacobian norms at `n_points` data points and as many random ones, rounded down."""
    import torch

    from certlip import jacobian

    generator = torch.Generator().manual_seed(seed)
    best: tuple[float, Tensor, Tensor] | None = None
    for points in torch.split(_candidates(network, data, n_points, seed), _BATCH):
        derivative = jacobian.linearise(network, points)
        start = torch.randn(points.shape, dtype=points.dtype, generator=generator)
        norms, directions = jacobian.spectral_norms(derivative, start, n_iter=20)
        k = int(norms.argmax())
        if best is None or float(norms[k]) > best[0]:
            best = float(norms[k]), points[k : k + 1], directions[k : k + 1]
    assert best is not None
    _, point, direction = best
    _, direction = jacobian.spectral_norms(jacobian.linearise(network, point), direction, n_iter=300)
    x, v = point[0].numpy(), direction[0].detach().numpy()
    value = lower_at(network, x, v)
    return Bound(value, LowerCertificate(network, x, v, value), details={"n_points": n_points, "seed": seed})


def _candidates(network: Network, data: Array | None, n_points: int, seed: int) -> Tensor:
    import torch

    rng = np.random.default_rng(seed)
    centre, spread, chosen = np.zeros(network.input_shape), 1.0, []
    if data is not None and len(data):
        picked = np.asarray(data, dtype=np.float64)[rng.permutation(len(data))[:n_points]]
        centre, spread = picked.mean(axis=0), float(picked.std()) or 1.0
        chosen.append(picked.reshape(-1, *network.input_shape))
    scales = spread * np.resize(_SCALES, n_points).reshape(-1, *[1] * len(network.input_shape))
    chosen.append(centre + scales * rng.standard_normal((n_points, *network.input_shape)))
    return torch.from_numpy(np.concatenate(chosen))
