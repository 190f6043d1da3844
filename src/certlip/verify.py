"""Re-checking a certificate: no solver, no trust in its author, every inequality proved with rounding included."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from certlip import certificate as certificates
from certlip import norms
from certlip.blocks import load_solved
from certlip.certificate import Certificate, LowerCertificate, SegmentProof, UpperCertificate
from certlip.chain import Chain
from certlip.errors import UnsupportedLayer
from certlip.merge import merge_blocks
from certlip.methods import check_options
from certlip.methods import load as load_method
from certlip.network import Network
from certlip.partition.window import restrict, tiles
from certlip.rounding import multiply_up
from certlip.sdp.certify import is_feasible
from certlip.sdp.lmi import Lmi


@dataclass(frozen=True)
class Verification:
    """ok: whether all that was claimed is proved; value: of the network's constant, None for a file of solved blocks;
    reason: the first thing that does not hold."""

    ok: bool
    value: float | None
    reason: str = ""

    def __bool__(self) -> bool:
        return self.ok


def verify(certificate: Certificate | str | Path) -> Verification:
    """Prove or reject a certificate (or the file of one).

    Raises DataError if the file is missing, damaged or not a certificate.
    """
    if not isinstance(certificate, UpperCertificate | LowerCertificate):
        if certificates.kind(certificate) == "blocks":
            return _verify_blocks(certificate)
        certificate = certificates.load(certificate)
    reason = _lower_flaw(certificate) if isinstance(certificate, LowerCertificate) else _upper_flaw(certificate)
    return Verification(not reason, certificate.value, reason)


def _verify_blocks(path: str | Path) -> Verification:
    network, plan, solved = load_solved(path)
    if network is None:
        return Verification(True, None)
    for s in solved:
        if s.rho is None:
            continue
        segment = plan.segments[s.segment]
        patch, _ = restrict(network.segment(segment.first, segment.last), segment.blocks[s.block].windows[0])
        if not is_feasible(Lmi.of(Chain.of(patch)), s.rho, s.multipliers):
            return Verification(False, None, f"segment {s.segment}, block {s.block}: rho {s.rho:.6g} is not proved")
    return Verification(True, None)


def _lower_flaw(certificate: LowerCertificate) -> str:
    from certlip.tangent import lower_at

    shape = certificate.network.input_shape
    if certificate.point.shape != shape or certificate.direction.shape != shape:
        return f"the point or direction does not have the network's input shape {shape}"
    attained = lower_at(certificate.network, certificate.point, certificate.direction)
    return "" if certificate.value <= attained else f"at the point only {attained:.6g} is attained"


def _upper_flaw(certificate: UpperCertificate) -> str:
    position = 0
    for segment in certificate.segments:
        if segment.first != position or segment.last <= segment.first:
            return f"the segments do not follow each other at layer {position}"
        position = segment.last
        if flaw := _segment_flaw(certificate.network.segment(segment.first, segment.last), segment):
            return f"layers {segment.first} to {segment.last - 1}: {flaw}"
    if position != len(certificate.network.layers):
        return "the segments do not reach the last layer"
    return ""


def _segment_flaw(network: Network, segment: SegmentProof) -> str:
    match segment.rule:
        case "constants":
            return _constants_flaw(network, segment)
        case "recomputed":
            return _recomputed_flaw(network, segment)
        case "sum" | "cover":
            return _blocks_flaw(network, segment)
        case _:
            return f"unknown rule {segment.rule!r}"


def _constants_flaw(network: Network, segment: SegmentProof) -> str:
    if len(segment.constants) != len(network.layers):
        return "there is not one constant a layer"
    for layer, shape, constant in zip(network.layers, network.shapes, segment.constants, strict=False):
        if not norms.holds(layer, shape, constant):
            return f"{layer.name}: the constant {constant:.6g} is not proved"
    return "" if segment.constant >= multiply_up(segment.constants) else "the constant is below the product"


def _recomputed_flaw(network: Network, segment: SegmentProof) -> str:
    method = load_method(segment.method)
    options = check_options(segment.method, method, segment.options or {})
    result = method.bound(network, **options)
    if (result.kind or method.INFO.kind) != "certified":
        return f"{segment.method} does not certify"
    return "" if segment.constant >= result.value else f"{segment.method} gives {result.value:.6g}"


def _blocks_flaw(network: Network, segment: SegmentProof) -> str:
    windows = [w for block in segment.blocks for w in block.windows]
    if not windows:
        return "there are no blocks"
    output, side = network.shapes[-1], network.input_shape[1:] if len(network.input_shape) == 3 else None
    if None in windows:
        if windows != [None]:
            return "a whole map and patches are mixed"
    elif len(output) != 3 or not tiles([w for w in windows if w is not None], output[1], output[2]):
        return "the patches do not tile the output map"
    rhos, fields, scale = [], [], 1.0
    for block in segment.blocks:
        verified: set[str] = set()
        for window in block.windows:
            try:
                patch, field = restrict(network, window)
            except UnsupportedLayer as error:
                return str(error)
            if patch.sha256 not in verified:
                chain = Chain.of(patch)
                scale = max(scale, chain.scale)
                if not is_feasible(Lmi.of(chain), block.rho, block.multipliers):
                    return f"patch {window}: rho {block.rho:.6g} is not proved"
                verified.add(patch.sha256)
            rhos.append(block.rho)
            fields.append(field)
    merged = multiply_up([scale, merge_blocks(segment.rule, rhos, fields, (side[0], side[1]) if side else None)])
    return "" if segment.constant >= merged else f"the merge gives {merged:.6g}"
