"""A lower bound attained at a point: the largest Jacobian norm found, |f'(x; v)| / |v| <= L for any x and v.

Candidates are data and random points at several scales; from the best of them `certlip.methods.lower.ascent` climbs
over activation patterns at several temperatures, and once more, colder, from the best it finds. The search only
proposes a point and a direction: these are the certificate, and `certlip.proof.tangent.lower_at` computes the value
there, rounded down.
"""

from __future__ import annotations

import math
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import NonNegativeInt, PositiveInt

from certlip.base.record import Kind
from certlip.methods import Bound, MethodInfo
from certlip.network import Array, Network
from certlip.network.scaling import multiply_back
from certlip.proof.certificate import LowerCertificate
from certlip.proof.tangent import lower_at

if TYPE_CHECKING:
    from certlip.methods.lower.ascent import Candidates
    from certlip.pytorch.jacobian import Rescaled

INFO = MethodInfo(
    "Largest Jacobian norm found",
    Kind.LOWER,
    "Jordan & Dimakis 2020, arXiv 2003.01219",
    imports=("certlip.methods.lower.ascent",),
    reads_biases=True,
)

_SCALES = (0.1, 1.0, 10.0, 100.0)
_BATCH = 64
_CLIMBS = (((2.0, 0.1), 0.1), ((1.0, 0.03), 0.1), ((0.3, 0.01), 0.5))
"""(first, last) temperature and step of each ascent: sparse networks need heat, dense ones are spoilt by it."""

_LAST_CLIMB = ((0.03, 0.003), 0.1)
_PROVED = 4
"""How many of the best candidates are proved: the proof may favour another than the largest by a hair."""


def bound(
    network: Network,
    *,
    n_points: PositiveInt = 128,
    n_starts: PositiveInt = 16,
    n_steps: NonNegativeInt = 150,
    data: Any = None,
    max_seconds: float | None = None,
    seed: int = 0,
) -> Bound:
    """The largest Jacobian norm that is proved, rounded down.

    n_points: random points sampled, and as many of `data`; n_starts: from how many of the best the ascent starts;
    n_steps: of the ascent, 0 for sampling only. Counts end the search, so that its result
    is the same at any load; where `max_seconds` ends it, the reason says so.
    """
    from certlip.methods.lower.ascent import ascend, join
    from certlip.pytorch import jacobian

    deadline = math.inf if max_seconds is None else perf_counter() + 0.8 * max_seconds
    rescaled = jacobian.Rescaled.of(network)
    sampled = _sample(rescaled, _points(network, data, n_points, seed), seed, deadline)
    starts = sampled.best(n_starts)
    climbs = [ascend(rescaled, starts, n_steps, temperatures, step, deadline) for temperatures, step in _CLIMBS]
    best = join([sampled, *climbs]).best(max(1, n_starts // 2))
    found = ascend(rescaled, best, n_steps, *_LAST_CLIMB, deadline)
    finalists = found.best(_PROVED)
    proved = []
    for x, v in zip(finalists.points, finalists.directions, strict=True):
        _, direction = jacobian.spectral_norms(jacobian.linearise(rescaled, x[None]), v[None], n_iter=300)
        point, v_array = x.numpy(), direction[0].detach().numpy()
        proved.append(LowerCertificate(network, point, v_array, lower_at(network, point, v_array)))
    certificate = max(proved, key=lambda c: c.value)
    largest = multiply_back(float(sampled.norms.max()), (rescaled.exponent,))
    reason = "the time limit ended the search early" if perf_counter() > deadline else ""
    return Bound(certificate.value, certificate, reason=reason, details={"seed": seed, "sampled": largest})


def _sample(network: Rescaled, points: Array, seed: int, deadline: float) -> Candidates:
    import torch

    from certlip.methods.lower.ascent import evaluate, join

    generator = torch.Generator().manual_seed(seed)
    parts: list[Candidates] = []
    for batch in torch.split(torch.from_numpy(points), _BATCH):
        if parts and perf_counter() > deadline:
            break
        parts.append(evaluate(network, batch, torch.randn(batch.shape, dtype=batch.dtype, generator=generator)))
    return join(parts)


def _points(network: Network, data: Array | None, n_points: int, seed: int) -> Array:
    """(n, *input_shape): data, and normal points around their mean at several multiples of their spread."""
    rng = np.random.default_rng(seed)
    centre, spread, chosen = np.zeros(network.input_shape), 1.0, []
    if data is not None and len(data):
        picked = np.asarray(data)[rng.permutation(len(data))[:n_points]].astype(np.float64)
        centre, spread = picked.mean(axis=0), float(picked.std()) or 1.0
        chosen.append(picked.reshape(-1, *network.input_shape))
    scales = spread * np.resize(_SCALES, n_points).reshape(-1, *[1] * len(network.input_shape))
    chosen.append(centre + scales * rng.standard_normal((n_points, *network.input_shape)))
    return np.concatenate(chosen)
