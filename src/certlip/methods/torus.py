"""LipSDP with one multiplier a channel, proved frequency by frequency on a torus: any graph of convolutions.

Residual sums, strides, max and global average pooling included, at a cost that is linear in pixels: the ascent is made
of forward and backward passes of the network, the proof of small Hermitian factorisations (`certlip.sdp.torus`). Looser
than one multiplier a neuron, at sizes where that cannot be solved.

Where a map is flattened the network is cut: what follows has a bound of its own, by LipSDP-Neuron where that fits, and
the two multiply. Nothing is bounded worse than by layer constants.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from certlip import sdp
from certlip.base import limits
from certlip.base.deadline import Deadline
from certlip.base.errors import DataError, NoBound, SolverUnavailable, UnsupportedLayer
from certlip.base.record import Kind
from certlip.base.rounding import multiply_up, sqrt_up
from certlip.methods import Bound, MethodInfo
from certlip.methods._refined import quick_ones, refined_constants
from certlip.network import Flatten, Network
from certlip.network.chain import MAX_ENTRIES, Chain, linear_groups
from certlip.proof.certificate import (
    BlockProof,
    SegmentProof,
    UpperCertificate,
    constants_proof,
)
from certlip.proof.lmi import Lmi

if TYPE_CHECKING:
    from certlip.proof.torus_relaxation import Relaxation
    from certlip.sdp.torus.solve import Found

INFO = MethodInfo(
    "LipSDP by channel on the torus",
    Kind.CERTIFIED,
    "this project, docs/torus.md",
    graphs=True,
    imports=("torch", "certlip.sdp.torus.ascent"),
)

TAIL_RTOL = 1e-4
"""Gap asked of LipSDP-Neuron behind a cut."""
TAIL_SHARE = 0.3
"""Of the time that is left, for what is behind a cut."""
LEAST_SECONDS = 1.0
"""Layer constants are sharpened for as long as the torus took, and at least for so long."""


def bound(
    network: Network,
    *,
    rtol: Annotated[float, Field(gt=0, lt=1)] = 1e-3,
    device: Literal["cpu", "cuda"] = "cpu",
    max_seconds: float | None = None,
) -> Bound:
    """The bound of a network, never above that of its layer constants.

    rtol: gap asked for between what is proved and the dual; device: of the ascent.
    Raises UnsupportedLayer by name for what is neither a convolution nor elementwise, pooling, a sum or concatenation
    of maps, or a layer behind a flattened or averaged map; SolverUnavailable for a device that is not there.
    """
    import torch

    from certlip.proof.torus_relaxation import Relaxation

    deadline = Deadline.after(max_seconds)
    if device == "cuda" and not torch.cuda.is_available():
        raise SolverUnavailable("torch finds no cuda device here; use device='cpu'")
    cut = first_cut(network)
    try:
        head, tail = network.segment(0, cut), network.segment(cut, len(network.layers))
    except DataError as error:
        what = f"{network.layers[cut].name}: no torus for a map that is flattened beside another branch"
        raise UnsupportedLayer(what) from error
    tails, tail_reason = _tail_proof(tail, cut, deadline) if tail.layers else ([], "")
    relaxation = Relaxation.of(head) if head.layers else None

    def of(found: Found | None, constants: Sequence[Sequence[float]], quick: list[str]) -> Bound:
        proofs = [constants_proof(0, head, constants[0])] if constants else []
        if found and math.isfinite(found.rho):
            block = BlockProof((None,), found.rho, found.multipliers)
            proofs.append(SegmentProof(0, cut, "torus", sqrt_up(found.rho), blocks=(block,)))
        best = min(proofs, key=lambda proof: proof.constant) if proofs else None
        certificate = UpperCertificate(network, (*([best] if best else []), *tails))
        reasons = [_reason(found, quick if best and best.rule == "constants" else []), tail_reason]
        details = {"device": device, **_details(relaxation, None if tails else found)} if relaxation else {}
        return Bound(certificate.value, certificate, None, "; ".join(filter(None, reasons)), details)

    if relaxation is None:
        return of(None, [], [])
    return _best(relaxation, [head], of, rtol, device, deadline)


def _best(
    relaxation: Relaxation,
    networks: Sequence[Network],
    of: Callable[[Found | None, Sequence[Sequence[float]], list[str]], Bound],
    rtol: float,
    device: str,
    deadline: Deadline,
) -> Bound:
    """What `of` makes of the torus and of constants of the networks' layers, which is reported as it becomes better."""
    from certlip.sdp.torus.solve import solve

    refined = refined_constants(networks)
    quick_constants, names = next(refined)
    first = [list(constants) for constants in quick_constants], names
    limits.report(partial(of, None, *first))
    begin = Deadline.after(0)
    found = solve(
        relaxation, rtol, deadline.max_seconds, device, lambda so_far: limits.report(partial(of, so_far, *first))
    )
    sharpening = Deadline.after(max(-begin.left, LEAST_SECONDS))
    result = of(found, *first)
    for constants, quick in refined:
        result = of(found, constants, quick)
        if not (sharpening.allows(0) and deadline.allows(0)):
            break
    return result


def first_cut(network: Network) -> int:
    """Index of the first layer that flattens a map of more than a pixel; 0 without a map, else the number of layers."""
    if len(network.input_shape) != 3:
        return 0
    shapes = enumerate(network.with_shapes)
    flat = (i for i, (layer, shape) in shapes if isinstance(layer, Flatten) and math.prod(shape[1:]) > 1)
    return next(flat, len(network.layers))


def _tail_proof(tail: Network, first: int, deadline: Deadline) -> tuple[list[SegmentProof], str]:
    """Of the layers behind a cut: the better of LipSDP-Neuron and their constants, and what there is to say."""
    *_, (constants, _) = refined_constants([tail])
    best = constants_proof(first, tail, constants[0])
    limit = None if deadline.max_seconds is None else TAIL_SHARE * deadline.max_seconds
    try:
        first_ones = [group[0] for group in linear_groups(tail)[0]]
        if sum(math.prod(shape) * math.prod(layer.output_shape(shape)) for layer, shape in first_ones) > MAX_ENTRIES:
            return [best], "what follows the flattening is too large for a semidefinite program: its layer constants"
        chain = Chain.of(tail)
        solution = sdp.solve_lmi(Lmi.of(chain), rtol=TAIL_RTOL, max_seconds=limit)
    except NoBound as error:
        return [best], f"what follows the flattening uses layer constants: {error}"
    block = BlockProof((None,), solution.rho, solution.multipliers)
    constant = multiply_up([chain.scale, solution.bound])
    proof = SegmentProof(first, first + len(tail.layers), "sum", constant, blocks=(block,))
    return [min(best, proof, key=lambda proof: proof.constant)], ""


def _reason(found: Found | None, quick: list[str]) -> str:
    """What cut the torus short, if anything, and which layer constants are quick ones."""
    reasons = []
    if found and found.status == "time_limit":
        reasons.append(f"the time limit cut it short: {sdp.left_open(_gap(found))}")
    elif found and not math.isfinite(found.rho):
        reasons.append("no multipliers were proved on the torus: layer constants")
    return "; ".join([*reasons, *([quick_ones(quick)] if quick else [])])


def _gap(found: Found) -> float | None:
    return sdp.relative_gap(found.rho, found.lower) if math.isfinite(found.rho) else None


def _details(relaxation: Relaxation, found: Found | None) -> dict[str, Any]:
    order = sum(node.channels * math.prod(relaxation.side(node.after)) for node in relaxation.nodes)
    known = {"iterations": found.n_rounds, "gap": _gap(found)} if found else {}
    return {"max_order": order, "sides": list(relaxation.sides), **known}
