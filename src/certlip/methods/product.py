"""Product of layer constants, the "naive" bound (Szegedy et al. 2014, arXiv 1312.6199, section 4.3).

L(f_L o ... o f_1) <= L(f_L) ... L(f_1), and the constants of what a layer adds up are added up
(`certlip.proof.merge.along`): certified, since each constant of `certlip.proof.norms` is.
"""

from __future__ import annotations

from functools import partial

from certlip.base import limits
from certlip.base.deadline import Deadline
from certlip.base.record import Kind
from certlip.methods import Bound, MethodInfo
from certlip.methods._refined import Constant, quick_ones, refined_constants
from certlip.network import Network
from certlip.proof import norms
from certlip.proof.certificate import UpperCertificate

INFO = MethodInfo("Product of layer norms", Kind.CERTIFIED, "Szegedy et al. 2014, arXiv 1312.6199", graphs=True)


def bound(network: Network) -> Bound:
    """The product of certified layer constants, along a graph their sums too; raises UnsupportedLayer by layer name."""
    return best_product(network)


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


def _bound(network: Network, constants: list[float], quick: list[str]) -> Bound:
    certificate = UpperCertificate.from_constants(network, constants)
    return Bound(certificate.value, certificate, reason=quick_ones(quick))
