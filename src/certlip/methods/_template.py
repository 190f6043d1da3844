"""A complete method to copy: the product of Frobenius norms. Rename the file, and what it adds runs by its name.

Why it is a bound: ||W|| <= ||W||_F for a dense layer; a convolution is at each frequency a sum of its k_h k_w taps,
each with a phase, so its norm is at most sqrt(k_h k_w) times the Frobenius norm of the kernel. Norms are rounded up,
with room for `certlip verify`.
"""

from __future__ import annotations

import math

from certlip.base.record import Kind
from certlip.methods import Bound, MethodInfo
from certlip.network import Conv, Dense, Network
from certlip.network.chain import frobenius_norm
from certlip.proof import norms
from certlip.proof.certificate import UpperCertificate

INFO = MethodInfo(title="Product of Frobenius norms", kind=Kind.CERTIFIED, reference="textbook")


def bound(network: Network, *, headroom: float = 1e-6) -> Bound:
    """A constant a layer; headroom: of each above its Frobenius bound. Raises UnsupportedLayer by layer name."""
    constants = []
    for layer, shape in network.with_shapes:
        if isinstance(layer, Conv | Dense):
            n_taps = math.prod(layer.weight.shape[2:])
            constants.append(math.sqrt(n_taps) * frobenius_norm(layer.weight) * (1 + headroom))
        else:
            constants.append(norms.layer_constant(layer, shape))
    certificate = UpperCertificate.from_constants(network, constants)
    return Bound(certificate.value, certificate)
