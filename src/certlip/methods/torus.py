"""LipSDP with one multiplier a channel, proved frequency by frequency on a torus: any graph of convolutions.

Residual sums, strides, max and global average pooling included, at a cost that is linear in pixels: the ascent is made
of forward and backward passes of the network, the proof of small Hermitian factorisations (`certlip.sdp.torus`). Looser
than one multiplier a neuron, at sizes where that cannot be solved.

Where a map is flattened the network is cut: what follows has a bound of its own, by LipSDP-Neuron where that fits, and
the two multiply. Nothing is bounded worse than by layer constants.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from certlip import norms, sdp
from certlip.certificate import (
    BlockProof,
    GraphCertificate,
    SegmentProof,
    TorusCertificate,
    UpperCertificate,
    constants_proof,
)
from certlip.chain import MAX_ENTRIES, Chain, linear_groups
from certlip.errors import NoBound, UnsupportedLayer
from certlip.methods import Bound, MethodInfo
from certlip.network import Flatten, Network, Shape
from certlip.record import Kind
from certlip.rounding import multiply_up, sqrt_up
from certlip.sdp.lmi import Lmi

if TYPE_CHECKING:
    from torch import nn

    from certlip.computation_graph import Graph
    from certlip.sdp.torus.relaxation import Relaxation
    from certlip.sdp.torus.solve import Found

INFO = MethodInfo(
    "LipSDP by channel on the torus",
    Kind.CERTIFIED,
    "this project, docs/torus.md",
    takes="module",
    imports=("certlip.export_graph", "certlip.sdp.torus.ascent"),
)

TAIL_RTOL = 1e-4
"""Gap asked of LipSDP-Neuron behind a cut."""
TAIL_SHARE = 0.3
"""Of the time that is left, for what is behind a cut."""


def bound(
    module: nn.Module,
    input_shape: Shape,
    *,
    rtol: Annotated[float, Field(gt=0, lt=1)] = 1e-3,
    device: Literal["cpu", "cuda"] = "cpu",
    max_seconds: float | None = None,
    threads: int = 1,
) -> Bound:
    """The bound of a chain of layers or of a graph, never above that of layer constants.

    rtol: gap asked for between what is proved and the dual; device: of the ascent.
    Raises UnsupportedLayer by name for what is neither a convolution nor elementwise, pooling, a sum or concatenation
    of maps, or a dense layer behind a flattened or averaged map.
    """
    from certlip.export import export_network
    from certlip.export_graph import export_graph

    ends = None if max_seconds is None else time.perf_counter() + max_seconds
    try:
        network = export_network(module, input_shape)
    except UnsupportedLayer:
        return _graph_bound(export_graph(module, input_shape), rtol, device, ends)
    return _chain_bound(network, rtol, device, ends)


def _graph_bound(graph: Graph, rtol: float, device: str, ends: float | None) -> Bound:
    from certlip.sdp.torus.relaxation import Relaxation

    relaxation = Relaxation.of(graph)
    constants = [norms.layer_constants(s.operation) if isinstance(s.operation, Network) else () for s in graph.steps]
    by_layers = GraphCertificate(graph, tuple(map(tuple, constants)))
    found = _solve(relaxation, rtol, device, ends)
    if not math.isfinite(found.rho):
        return Bound(by_layers.value, by_layers, reason=_unproved(found), details=_details(relaxation, found))
    on_torus = TorusCertificate(graph, found.rho, found.multipliers)
    best = on_torus if on_torus.value < by_layers.value else by_layers
    return Bound(best.value, best, reason=_early(found), details=_details(relaxation, found))


def _chain_bound(network: Network, rtol: float, device: str, ends: float | None) -> Bound:
    from certlip.sdp.torus.relaxation import Relaxation

    cut = _first_cut(network)
    head, tail = network.segment(0, cut), network.segment(cut, len(network.layers))
    segments, reasons, details = [], [], {}
    if tail.layers:
        proof, reason = _tail_proof(tail, cut, None if ends is None else TAIL_SHARE * (ends - time.perf_counter()))
        segments.append(proof)
        reasons.append(reason)
    if head.layers:
        relaxation = Relaxation.of(head)
        by_layers = constants_proof(0, norms.layer_constants(head))
        found = _solve(relaxation, rtol, device, ends)
        details = _details(relaxation, found)
        candidates = [by_layers]
        if math.isfinite(found.rho):
            block = BlockProof((None,), found.rho, found.multipliers)
            candidates.append(SegmentProof(0, cut, "torus", sqrt_up(found.rho), blocks=(block,)))
        segments.insert(0, min(candidates, key=lambda proof: proof.constant))
        reasons.insert(0, _early(found) if len(candidates) > 1 else _unproved(found))
    certificate = UpperCertificate(network, tuple(segments))
    return Bound(certificate.value, certificate, reason="; ".join(filter(None, reasons)), details=details)


def _first_cut(network: Network) -> int:
    """Index of the first layer that flattens a map of more than a pixel; 0 without a map, else the number of layers."""
    if len(network.input_shape) != 3:
        return 0
    shapes = zip(network.layers, network.shapes, strict=False)
    flat = (i for i, (layer, shape) in enumerate(shapes) if isinstance(layer, Flatten) and math.prod(shape[1:]) > 1)
    return next(flat, len(network.layers))


def _tail_proof(tail: Network, first: int, max_seconds: float | None) -> tuple[SegmentProof, str]:
    """Of the layers behind a cut: the better of LipSDP-Neuron and their constants, and what there is to say."""
    best = constants_proof(first, norms.layer_constants(tail))
    try:
        if sum(group[0][0].weight.size for group in linear_groups(tail)[0]) > MAX_ENTRIES:
            return best, "what follows the flattening is too large for a semidefinite program: its layer constants"
        chain = Chain.of(tail)
        solution = sdp.solve_lmi(Lmi.of(chain), rtol=TAIL_RTOL, max_seconds=max_seconds)
    except NoBound as error:
        return best, f"what follows the flattening uses layer constants: {error}"
    block = BlockProof((None,), solution.rho, solution.multipliers)
    constant = multiply_up([chain.scale, solution.bound])
    proof = SegmentProof(first, first + len(tail.layers), "sum", constant, blocks=(block,))
    return min(best, proof, key=lambda proof: proof.constant), ""


def _solve(relaxation: Relaxation, rtol: float, device: str, ends: float | None) -> Found:
    from certlip.sdp.torus.solve import solve

    return solve(relaxation, rtol, None if ends is None else ends - time.perf_counter(), device)


def _early(found: Found) -> str:
    return f"stopped at its time limit with a gap of {found.gap:.2g}" if found.status == "time_limit" else ""


def _unproved(found: Found) -> str:
    how = " in time" if found.status == "time_limit" else ""
    return f"no multipliers were proved on the torus{how}: layer constants"


def _details(relaxation: Relaxation, found: Found) -> dict[str, Any]:
    order = sum(node.channels * math.prod(relaxation.side(node.after)) for node in relaxation.nodes)
    dual = math.sqrt(found.lower)
    return {"max_order": order, "iterations": found.n_rounds, "dual": dual, "sides": list(relaxation.sides)}
