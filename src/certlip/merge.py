"""From the bounds of sub-blocks to the bound of a segment (Sulehman & Mu 2024, arXiv 2403.18613, lemma behind eq. 18).

Patch j of the output is computed by f_j from its receptive field RF_j, and |f_j(x) - f_j(y)|^2 <= rho_j |x - y|^2 on
it. Summing over patches that tile the output map:

    sum:    L^2 = sum_j rho_j                                      (the paper's)
    cover:  L^2 = max over input pixels p of sum_{j: p in RF_j} rho_j      never worse, same programs
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from certlip.network import Pair
from certlip.partition.window import Window
from certlip.rounding import add_up, gamma, sqrt_up, up


def merge_blocks(merge: str, rhos: Sequence[float], fields: Sequence[Window | None], side: Pair | None) -> float:
    """Certified constant of a segment, rounded up.

    rhos: verified squared constant of each patch; fields: input window of each patch, None for the whole input;
    side: rows and columns of the segment's input map, None for a flat one.
    """
    if merge == "sum" or side is None or None in fields:
        return sqrt_up(add_up(rhos))
    if merge == "cover":
        load = np.zeros(side)
        for rho, field in zip(rhos, fields, strict=True):
            if field is not None:
                load[field.slices] += rho
        return sqrt_up(up(float(load.max()) * (1 + gamma(len(rhos) + 1))))
    raise ValueError(f"unknown merge {merge!r}")
