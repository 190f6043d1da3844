"""A network, and plans of it for a machine where the program for the whole may fail."""

from __future__ import annotations

from typing import Any

import numpy as np

from certlip.methods import dcp
from certlip.network import Activation, Conv, Dense, Flatten, Layer, Network
from certlip.partition.calibration import Calibration, Law
from certlip.partition.plan import Plan

LIMIT = 10.0
WHOLE_SECONDS = 4.0
"""Predicted for the whole network: within the limit, but not if it takes RISK times as long."""


def net(side: int = 9) -> Network:
    rng = np.random.default_rng(3)
    layers: list[Layer] = []
    shape: tuple[int, ...] = (1, side, side)
    for index in range(3):
        layers += [
            Conv(f"c{index}", rng.standard_normal((2, shape[0], 3, 3)), np.zeros(2)),
            Activation(f"a{index}", "relu"),
        ]
        shape = layers[-2].output_shape(shape)
    n = int(np.prod(shape))
    layers += [Flatten("f"), Dense("d", rng.standard_normal((6, n)), np.zeros(6)), Activation("b", "relu")]
    return Network((*layers, Dense("e", rng.standard_normal((3, 6)), np.zeros(3))), (1, side, side))


def calibration(network: Network, exponent: float = 3.0, **changes: Any) -> Calibration:
    """Of a machine where the program for the whole network takes `WHOLE_SECONDS`."""
    whole = dcp.plan(network, grid=(1, 1), cuts=["e"])
    (block,) = whole.blocks_of(whole.jobs[0])
    law = Law(base=0.0, factor=WHOLE_SECONDS / block.n_weights**exponent, exponent=exponent)
    known: dict[str, Any] = {"solver": "auto", "alone": law, "joint": law, "max_seconds": LIMIT}
    return Calibration(**{**known, **changes})


def automatic(network: Network, budget: float = 6.0, chain: bool = False, **changes: Any) -> Plan:
    by = calibration(network, **changes)
    return dcp.plan(network, grid="auto", cuts="auto", merge="folded", chain=chain, budget=budget, calibration=by)
