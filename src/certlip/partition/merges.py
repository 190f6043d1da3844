"""How the bounds of a segment's patches become the segment's: a rule is one object of `RULES`.

`certlip.proof.merge` proves what they compute: one that adds numbers up in another way is a function there, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator

from certlip.network import Array

Shares = Callable[[NDArray[np.int64]], Array]


@dataclass(frozen=True)
class MergeRule:
    """A rule for patches that each have a number rho, or an input metric.

    name: of a method's option ``merge``; grid_loss, doubling_loss, overlap_loss: of `certlip.partition.predict.Losses`;
    total: by which of `certlip.proof.merge.TOTALS` numbers add up; joint: metrics come from one program for all
    patches, and segments can hand them on; shares: metrics are given, from how many patches read each pixel of a
    patch's input (rows, columns) to its weight there.
    """

    name: str
    grid_loss: float
    doubling_loss: float
    overlap_loss: float = 0.0
    total: str = "sum"
    joint: bool = False
    shares: Shares | None = None

    @property
    def has_metrics(self) -> bool:
        """Whether patches have input metrics; then it pays to tell apart those whose pixels others read as well."""
        return self.joint or self.shares is not None


SUM = MergeRule("sum", 0.2, 0.2)
COVER = MergeRule("cover", 0.45, 0.065, total="cover")
WEIGHTED = MergeRule("weighted", 0.3, 0.06, shares=lambda n_readers: 1.0 / n_readers)
FOLDED = MergeRule("folded", 0.0, 0.0, 0.09, joint=True)

RULES = {rule.name: rule for rule in (SUM, COVER, WEIGHTED, FOLDED)}


def _known(name: str) -> str:
    if name not in RULES:
        raise ValueError(f"should be one of {', '.join(map(repr, RULES))}")
    return name


Merge = Annotated[str, AfterValidator(_known)]
"""Name of one of the `RULES`."""
