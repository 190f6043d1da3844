"""Max pooling taken as 1-Lipschitz though its windows overlap."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from certlip.claims import Finding, Proof
from certlip.network import MaxPool, Network
from certlip.proof.tangent import lower_at

SOURCE = "products of layer constants with 1 for every max pooling"


def check(folder: Path) -> list[Finding]:
    """Windows of two pixels a side that move by one: a pixel that is the largest of all is the maximum of each."""
    return [_of("in two dimensions", 2, (1, 3, 3)), _of("in one dimension", 1, (1, 1, 3))]


def _of(where: str, rows: int, shape: tuple[int, int, int]) -> Finding:
    network = Network((MaxPool("pool", (rows, 2), (1, 1)),), shape)
    peak = np.zeros(shape)
    peak[0, shape[1] // 2, 1] = 1.0
    return Finding(
        f"max pooling {where}, windows of 2 that move by 1",
        1.0,
        lower_at(network, peak, peak),
        Proof.LOWER,
        "Proved: the derivative at an input whose middle pixel is the largest, along that pixel",
        "The root of the number of windows that share a pixel is a bound, and 1 where they do not overlap",
    )
