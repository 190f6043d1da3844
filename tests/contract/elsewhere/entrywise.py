"""Square root of the largest row sum times the largest column sum of each dense layer, a method of someone else's."""

from __future__ import annotations

import math

import numpy as np

from certlip.base.errors import UnsupportedLayer
from certlip.base.record import Kind
from certlip.methods import Bound, MethodInfo
from certlip.network import Activation, Dense, Flatten, Network
from certlip.proof.certificate import UpperCertificate

INFO = MethodInfo(title="Row and column sums", kind=Kind.CERTIFIED, reference="Schur's test")


def bound(network: Network, *, headroom: float = 1e-6) -> Bound:
    constants = []
    for layer in network.layers:
        match layer:
            case Dense():
                sums = np.abs(layer.weight).sum(axis=0).max(), np.abs(layer.weight).sum(axis=1).max()
                constants.append(math.sqrt(sums[0]) * math.sqrt(sums[1]) * (1 + headroom))
            case Activation():
                constants.append(float(np.abs(layer.slopes).max()))
            case Flatten():
                constants.append(1.0)
            case _:
                raise UnsupportedLayer(f"{layer.name}: no bound for {type(layer).__name__}")
    certificate = UpperCertificate.from_constants(network, constants)
    return Bound(certificate.value, certificate)
