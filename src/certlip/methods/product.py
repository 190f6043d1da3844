"""Product of layer constants, the "naive" bound (Szegedy et al. 2014, arXiv 1312.6199, section 4.3).

L(f_L o ... o f_1) <= L(f_L) ... L(f_1), and the constants of what a layer adds up are added up
(`certlip.proof.merge.along`): certified, since each constant of `certlip.proof.norms` is.

With ``joined`` dense layers that follow each other are one, whose matrix is their product. Behind a network the row
with 1 at i and -1 at j then makes the last factor |w_i - w_j|: what comparisons of certified predictions call LipNaive.
"""

from __future__ import annotations

from functools import partial
from itertools import groupby

from certlip.base import limits
from certlip.base.deadline import Deadline
from certlip.base.record import Kind
from certlip.methods import Bound, MethodInfo
from certlip.methods._refined import Constant, quick_ones, refined_constants
from certlip.network import Dense, Network
from certlip.network.chain import Chain
from certlip.proof import norms
from certlip.proof.certificate import BlockProof, SegmentProof, UpperCertificate, constants_proof
from certlip.proof.certify import certify
from certlip.proof.lmi import Lmi

INFO = MethodInfo("Product of layer norms", Kind.CERTIFIED, "Szegedy et al. 2014, arXiv 1312.6199", graphs=True)


def bound(network: Network, *, joined: bool = False) -> Bound:
    """The product of certified layer constants, along a graph their sums too; raises UnsupportedLayer by layer name.

    joined: in a chain, take the norm of the product of dense layers that follow each other, where that is smaller.
    """
    return _joined(network) if joined and network.is_chain else best_product(network)


def best_product(
    network: Network,
    constant: Constant = norms.layer_constant,
    deadline: Deadline = Deadline(),  # noqa: B008, frozen
) -> Bound:
    """The product of certified constants of layers, which is reported from the first on as they become sharper.

    deadline: no further constant is made sharper after it.
    """
    for (constants,), quick in refined_constants([network], constant):
        make = partial(_bound, network, list(constants), quick)
        limits.report(make)
        if not deadline.allows(0):
            break
    return make()


def _joined(network: Network) -> Bound:
    """A segment for each run of dense layers, and for all that is between."""
    constants, proofs, first = norms.layer_constants(network), [], 0
    for is_dense, run in groupby(network.layers, key=lambda layer: isinstance(layer, Dense)):
        last = first + len(list(run))
        part = network.segment(first, last)
        known = [constants_proof(first, part, constants[first:last])]
        if is_dense and last - first > 1:
            known.append(_product_proof(first, part))
        proofs.append(min(known, key=lambda proof: proof.constant))
        first = last
    certificate = UpperCertificate(network, tuple(proofs))
    return Bound(certificate.value, certificate)


def _product_proof(first: int, part: Network) -> SegmentProof:
    """That the matrix of a stretch of dense layers has its norm: a matrix inequality without multipliers."""
    certified = certify(Lmi.of(Chain.of(part)), ())
    block = BlockProof((None,), certified.rho, ())
    return SegmentProof(first, first + len(part.layers), "sum", certified.bound, blocks=(block,))


def _bound(network: Network, constants: list[float], quick: list[str]) -> Bound:
    certificate = UpperCertificate.from_constants(network, constants)
    return Bound(certificate.value, certificate, reason=quick_ones(quick))
