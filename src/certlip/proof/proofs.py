"""Whether proofs hold: no solver, no trust in who made them, every inequality proved with rounding included.

Each check returns the first thing that does not hold, in words: a flaw, empty where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from certlip.base.errors import CertlipError, ConfigError
from certlip.base.rounding import multiply_up, sqrt_up
from certlip.network import Array, Network
from certlip.network.chain import Chain, linear_groups
from certlip.network.scaling import divide
from certlip.network.window import Window, restrict, tiles
from certlip.proof import norms
from certlip.proof.certificate import (
    BlockProof,
    Certificate,
    LocalCertificate,
    LowerCertificate,
    SegmentProof,
    UpperCertificate,
)
from certlip.proof.certify import is_feasible
from certlip.proof.lmi import Lmi
from certlip.proof.merge import TOTALS, along, hand_on, merge_blocks, on_window
from certlip.proof.torus_proof import Inequality
from certlip.proof.torus_relaxation import Relaxation


def certificate_flaw(certificate: Certificate) -> str:
    """Of the whole certificate, in words."""
    try:
        match certificate:
            case LowerCertificate():
                return _lower_flaw(certificate)
            case UpperCertificate():
                return _upper_flaw(certificate)
            case LocalCertificate():
                from certlip.proof.local import local_flaw

                return local_flaw(certificate)
    except CertlipError as error:
        return str(error)
    except MemoryError:
        return "the network is too large to be checked in the memory of this machine"


def _lower_flaw(certificate: LowerCertificate) -> str:
    from certlip.proof.tangent import lower_at

    shape = certificate.network.input_shape
    if certificate.point.shape != shape or certificate.direction.shape != shape:
        return f"the point or direction does not have the network's input shape {shape}"
    attained = lower_at(certificate.network.chain, certificate.point, certificate.direction)
    return "" if certificate.value <= attained else f"at the point only {attained:.6g} is attained"


def _upper_flaw(certificate: UpperCertificate) -> str:
    position, network = 0, certificate.network.chain if certificate.rewritten else certificate.network
    if certificate.exponents:
        network = divide(network, certificate.exponents)
    for segment in certificate.segments:
        if segment.first != position or segment.last < segment.first:
            return f"the segments do not follow each other at layer {position}"
        position = segment.last
        if flaw := _segment_flaw(network.segment(segment.first, segment.last), segment):
            return f"layers {segment.first} to {segment.last - 1}: {flaw}"
    if position != len(network.layers):
        return "the segments do not reach the last layer"
    return ""


def _segment_flaw(network: Network, segment: SegmentProof) -> str:
    if segment.rule not in ("constants", "torus") and not network.is_chain:
        return f"rule {segment.rule!r} is one for chains"
    match segment.rule:
        case "constants":
            return _constants_flaw(network, segment)
        case "recomputed":
            return _recomputed_flaw(network, segment)
        case rule if rule in TOTALS:
            return _blocks_flaw(network, segment)
        case "metric":
            return metric_flaw(network, segment)
        case "torus":
            return _torus_segment_flaw(network, segment)
        case _:
            return f"unknown rule {segment.rule!r}"


def _constants_flaw(network: Network, segment: SegmentProof) -> str:
    if len(segment.constants) != len(network.layers):
        return "there is not one constant a layer"
    if (k := norms.unproved(network, segment.constants)) is not None:
        return f"{network.layers[k].name}: the constant {segment.constants[k]:.6g} is not proved"
    return "" if segment.constant >= along(network, segment.constants) else "the constant is below the product"


def _recomputed_flaw(network: Network, segment: SegmentProof) -> str:
    # the one place where a proof asks a method: only for values whose proof is to compute them again
    from certlip.methods import check_options, load

    method = load(segment.method)
    if not hasattr(method, "bound") or method.INFO.takes != "network":
        raise ConfigError(f"the value of {segment.method} cannot be computed again from the network alone")
    options = check_options(segment.method, method, segment.options or {})
    result = method.bound(network, **options)
    if (result.kind or method.INFO.kind) != "certified":
        return f"{segment.method} does not certify"
    return "" if segment.constant >= result.value else f"{segment.method} gives {result.value:.6g}"


def _torus_segment_flaw(network: Network, segment: SegmentProof) -> str:
    if len(segment.blocks) != 1 or segment.blocks[0].windows != (None,) or segment.blocks[0].metric is not None:
        return "the torus takes one block, the whole map"
    (block,) = segment.blocks
    if flaw := _torus_flaw(network, block.rho, block.multipliers):
        return flaw
    return "" if segment.constant >= sqrt_up(block.rho) else f"rho is {block.rho:.6g}"


@np.errstate(over="ignore", invalid="ignore")  # what is not finite proves nothing
def _torus_flaw(network: Network, rho: float, multipliers: Sequence[Array]) -> str:
    relaxation = Relaxation.of(network)
    if [t.shape for t in multipliers] != [(node.channels,) for node in relaxation.nodes[1:]]:
        return "there is not one multiplier a channel"
    holds = Inequality(relaxation, rho, multipliers).holds()
    return "" if holds.all() else f"rho {rho:.6g} is not proved at {int((~holds).sum())} frequencies"


def _blocks_flaw(network: Network, segment: SegmentProof) -> str:
    if segment.cuts or any(block.metric is not None for block in segment.blocks):
        return f"rule {segment.rule!r} takes no metrics"
    if flaw := _patches_flaw(network, segment.blocks):
        return flaw
    rhos = [block.rho for block in segment.blocks for _ in block.windows]
    fields, scale = _fields_and_scale(network, segment.blocks)
    merged = multiply_up([scale, merge_blocks(segment.rule, rhos, fields, network.input_shape)])
    return "" if segment.constant >= merged else f"the merge gives {merged:.6g}"


def metric_flaw(network: Network, segment: SegmentProof) -> str:
    """Backwards through the stages: the merged metric of one is the output metric of the stage before it."""
    ends = [0, *(cut - segment.first for cut in segment.cuts), len(network.layers)]
    stages = list(pairwise(ends))
    found = {block.stage for block in segment.blocks}
    if any(last <= first for first, last in stages) or found != set(range(len(stages))):
        return "the stages do not follow each other"
    if any(block.metric is None or block.rho != 1 for block in segment.blocks):
        return "a block has no metric of its own"
    handed: Array | None = None
    for stage, (first, last) in reversed(list(enumerate(stages))):
        part = network.segment(first, last)
        blocks = [block for block in segment.blocks if block.stage == stage]
        if flaw := _patches_flaw(part, blocks, handed):
            return flaw
        metrics = [block.metric for block in blocks for _ in block.windows if block.metric is not None]
        handed = hand_on(metrics, *_fields_and_scale(part, blocks), part.input_shape)
    merged = sqrt_up(float(handed.max())) if handed is not None else 0.0
    return "" if segment.constant >= merged else f"the merge gives {merged:.6g}"


def _patches_flaw(network: Network, blocks: Sequence[BlockProof], output_metric: Array | None = None) -> str:
    """Whether the blocks tile the output and the matrix inequality of each of their patches is proved.

    output_metric: of the shape of the network's output.
    """
    if flaw := tiling_flaw(network, [w for block in blocks for w in block.windows]):
        return flaw
    for block in blocks:
        verified: set[tuple[str, bytes]] = set()
        for window in block.windows:
            patch, _ = restrict(network, window)
            handed = None if output_metric is None else on_window(output_metric, window)
            key = patch.sha256, b"" if handed is None else handed.tobytes()
            if key in verified:
                continue
            if flaw := block_flaw(patch, block, handed):
                return f"patch {window}: {flaw}" if window else flaw
            verified.add(key)
    return ""


def tiling_flaw(network: Network, windows: Sequence[Window | None]) -> str:
    """Whether each output of the network is in exactly one of the windows, of which None is the whole map."""
    output = network.shapes[-1]
    if not windows:
        return "there are no blocks"
    if None in windows:
        return "" if list(windows) == [None] else "a whole map and patches are mixed"
    fits = len(output) == 3 and tiles([w for w in windows if w is not None], output[1], output[2])
    return "" if fits else "the patches do not tile the output map"


def block_flaw(patch: Network, block: BlockProof, output_metric: Array | None = None) -> str:
    """Whether the matrix inequality of a patch is proved by a block: the one place where that is decided.

    output_metric: that of the patch's outputs, flattened, None for ones.
    """
    if block.metric is not None and block.metric.shape != (math.prod(patch.input_shape),):
        return "the metric does not have one entry an input"
    proved = is_feasible(Lmi.of(Chain.of(patch), block.metric, output_metric), block.rho, block.multipliers)
    return "" if proved else f"rho {block.rho:.6g} is not proved"


def _fields_and_scale(network: Network, blocks: Sequence[BlockProof]) -> tuple[list[Window | None], float]:
    """The input window of each patch, and the constant of the activations before and after its matrices."""
    fields = [restrict(network, window)[1] for block in blocks for window in block.windows]
    return fields, linear_groups(network)[2]
