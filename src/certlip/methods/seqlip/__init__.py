"""SeqLip: a norm a pair of layers instead of one a layer (Virmaux & Scaman 2018, arXiv 1805.10965, section 5).

With W_i = U_i S_i V_i' and slopes of the activations in [a, b], every Jacobian is W_L D_L W_{L-1} ... D_1 W_0 with D_i
diagonal in [a, b]; cutting each W_i at its singular values, half of them to each side,

    L(f) <= prod_{i=1..L}  max over sigma in [a, b]^n  || S~_i V_i' diag(sigma) U_{i-1} S~_{i-1} ||

where S~ = S at the ends and sqrt(S) inside. The norm is convex in sigma: its maximum is at a vertex, hard to find.

mode ``exact`` (certified): a branch and bound that proves the maximum of each pair (`certlip.methods.seqlip.search`),
up to `max_gates` neurons in each hidden layer. Singular vectors in floating point make W_i = F_i G_i + E_i with a small
E_i: the product of the pairs bounds that of the F_i G_i, `residual` adds what the E_i can contribute, and verification
computes it again.

mode ``greedy`` (estimate): ascent over the gates. It may miss the maximum of a pair, so what it gives is on neither
side of the constant for sure, and the published ones fall below sampled lower bounds. With `rank` the factors keep only
the largest singular triples, found without writing convolutions out as matrices.

The network is cut at max pooling, sorting and softmax, which no gate describes: their constants and those of the
stretches multiply.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from itertools import groupby
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from certlip.base.errors import ConfigError, LimitExceeded
from certlip.base.record import Kind
from certlip.base.rounding import add_up, coarsen_up, multiply_up
from certlip.methods import Bound, MethodInfo
from certlip.methods.seqlip.factors import factorise, residual
from certlip.methods.seqlip.greedy import ascend
from certlip.methods.seqlip.operator import compose
from certlip.methods.seqlip.search import largest_gated_norm
from certlip.network import COUPLED, Network
from certlip.network.chain import Chain, linear_groups
from certlip.network.slopes import steepest
from certlip.proof import norms
from certlip.proof.certificate import UpperCertificate
from certlip.proof.matrix_norm import matrix_norm

INFO = MethodInfo("SeqLip", Kind.ESTIMATE, "Virmaux & Scaman 2018, arXiv 1805.10965", imports=("torch",))

Positive = Annotated[int, Field(ge=1)]


def bound(
    network: Network,
    *,
    mode: Literal["exact", "greedy"] = "greedy",
    rank: Positive | None = None,
    max_gates: Positive = 40,
    n_starts: Positive = 4,
    seed: int = 0,
    max_seconds: float | None = None,
) -> Bound:
    """The product over pairs of layers.

    mode: ``exact`` proves the maximum of each pair, ``greedy`` estimates it; rank: singular triples kept of each layer,
    None for all (``greedy`` only); max_gates: widest hidden layer that ``exact`` takes; n_starts: of each greedy
    ascent, the first with all gates open.

    Raises UnsupportedLayer by layer name, LimitExceeded for time, for a layer too large to be written out and for one
    too wide to be searched.
    """
    if mode == "exact":
        deadline = None if max_seconds is None else time.monotonic() + max_seconds
        value = coarsen_up(multiply_up(_stretches(network, lambda stretch: _exact(stretch, max_gates, deadline))))
        certificate = UpperCertificate.recomputed(network, "seqlip", {"mode": mode, "max_gates": max_gates}, value)
        return Bound(value, certificate, Kind.CERTIFIED)
    value = math.prod(_stretches(network, lambda stretch: _greedy(stretch, rank, n_starts, seed)))
    return Bound(value, kind=Kind.ESTIMATE, details={"seed": seed})


def check(options: Mapping[str, Any]) -> None:
    """Refuse options that cannot go together."""
    if options["mode"] == "exact" and options["rank"] is not None:
        raise ConfigError("rank: the exact search needs every singular triple; leave rank out, or use mode: greedy")


def _stretches(network: Network, constant: Callable[[Network], float]) -> Iterable[float]:
    """The constants of the network's stretches between layers of `COUPLED`, and of those."""
    indices = range(len(network.layers))
    for coupled, run in groupby(indices, key=lambda i: isinstance(network.layers[i], COUPLED)):
        found = list(run)
        stretch = network.segment(found[0], found[-1] + 1)
        if coupled:
            yield from norms.layer_constants(stretch)
        else:
            yield constant(stretch)


def _exact(network: Network, max_gates: int, deadline: float | None) -> float:
    widest = max((math.prod(group[0][1]) for group in linear_groups(network)[0][1:]), default=0)
    if widest > max_gates:
        raise LimitExceeded(
            "time_limit",
            f"a hidden layer has {widest} neurons: the exact search takes {max_gates} (max_gates), or use mode: greedy",
        )
    chain = Chain.of(network)
    factors = factorise(chain.weights, None, seed=0)
    pairs = [
        largest_gated_norm(after.g, before.f, slopes, deadline)
        for before, after, slopes in zip(factors, factors[1:], chain.slopes, strict=False)
    ]
    main = multiply_up([matrix_norm(factors[-1].f), *pairs, matrix_norm(factors[0].g)])
    rest = multiply_up([residual(chain, factors), *map(steepest, chain.slopes)])
    return multiply_up([chain.scale, add_up([main, rest])])


def _greedy(network: Network, rank: int | None, n_starts: int, seed: int) -> float:
    if rank is None:
        chain = Chain.of(network)
        layers, slopes, scale = list(chain.weights), list(chain.slopes), chain.scale
    else:
        groups, slopes, scale = linear_groups(network)
        layers = [compose(group) for group in groups]
    if not layers:
        return scale
    factors = factorise(layers, rank, seed)
    pairs = [
        ascend(after.g, before.f, gate_slopes, n_starts, seed)[0]
        for before, after, gate_slopes in zip(factors, factors[1:], slopes, strict=False)
    ]
    return scale * math.prod(pairs) * float(np.linalg.norm(factors[-1].f, axis=0).max() if len(factors) == 1 else 1.0)
