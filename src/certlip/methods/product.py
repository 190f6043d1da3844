"""Product of layer constants, the "naive" bound (Szegedy et al. 2014, arXiv 1312.6199, section 4.3).

L(f_L o ... o f_1) <= L(f_L) ... L(f_1): certified, since each constant of `certlip.norms` is.
"""

from __future__ import annotations

from certlip import norms
from certlip.certificate import UpperCertificate
from certlip.methods import Bound, MethodInfo
from certlip.network import Network
from certlip.record import Kind

INFO = MethodInfo("Product of layer norms", Kind.CERTIFIED, "Szegedy et al. 2014, arXiv 1312.6199")


def bound(network: Network) -> Bound:
    """The product of certified layer constants, rounded up; raises UnsupportedLayer by layer name."""
    certificate = UpperCertificate.from_constants(network, norms.layer_constants(network))
    return Bound(certificate.value, certificate)
