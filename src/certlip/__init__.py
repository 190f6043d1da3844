"""Reproducible benchmarks of certified l2 Lipschitz bounds for convolutional neural networks.

    record = certlip.bound(model, input_shape=(1, 28, 28), method="dcp", grid=(2, 2), merge="sum")
    record.value, record.kind, certlip.verify(record.certificate).ok

The functions `methods` and `verify` hide the modules of the same name: import from those with
``from certlip.methods import MethodInfo``.
"""

from __future__ import annotations

from certlip import sdp
from certlip.methods import methods
from certlip.network import Network
from certlip.record import Record
from certlip.run import bound
from certlip.verify import verify

__version__ = "0.1.0"
__all__ = ["Network", "Record", "bound", "methods", "sdp", "verify"]
