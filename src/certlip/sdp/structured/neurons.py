"""Neurons that cannot matter are left out, all others scaled to unit input rows.

Both change the LMI by a congruence only. A neuron without input never moves, one without output is never
seen: their multipliers tend to infinity and to zero, where no interior-point method feels well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certlip.chain import Slopes
from certlip.network import Array
from certlip.sdp.lmi import Multipliers

SILENT = 1e12
"""A neuron without input gets this many times the largest multiplier, one without output as much less."""
STEP = 1e4
"""Multipliers of left-out neurons fall by this factor a layer, which keeps coupled ones definite."""


@dataclass(frozen=True, eq=False)
class Neurons:
    """The neurons that matter.

    weights: W_0..W_L without the others, rows of W_0..W_{L-1} of norm one; kept: a mask for each hidden
    layer; unheard: mask of the neurons without output (the other left-out ones have no input); scales: for
    the kept neurons of each layer the norm of their input row.
    """

    weights: tuple[Array, ...]
    slopes: tuple[Slopes, ...]
    kept: tuple[NDArray[np.bool_], ...]
    unheard: tuple[NDArray[np.bool_], ...]
    scales: tuple[Array, ...]

    @classmethod
    def of(cls, weights: Sequence[Array], slopes: Sequence[Slopes]) -> Neurons:
        """Drop and scale; weights: W_0..W_L, slopes: of the L hidden layers."""
        left = [np.asarray(w, dtype=np.float64) for w in weights]
        heard = [np.ones(w.shape[0], dtype=bool) for w in left]
        moved = [np.ones(w.shape[0], dtype=bool) for w in left]
        for i in range(len(left) - 1):
            moved[i] = (left[i] != 0).any(axis=1)
            left[i + 1] = left[i + 1] * moved[i]
        for i in range(len(left) - 2, -1, -1):
            heard[i] = (left[i + 1] != 0).any(axis=0)
            left[i] = left[i] * heard[i][:, None]
        kept = [m & h for m, h in zip(moved, heard, strict=True)]
        scales = []
        for i in range(len(left) - 1):
            rows = left[i][kept[i]]
            norms = np.linalg.norm(rows, axis=1)
            left[i] = rows / norms[:, None]
            left[i + 1] = left[i + 1][:, kept[i]] * norms
            scales.append(norms)
        unheard = tuple(~h & m for h, m in zip(heard, moved, strict=True))
        return cls(tuple(left), tuple(slopes), tuple(kept[:-1]), unheard[:-1], tuple(scales))

    @property
    def n_kept(self) -> int:
        return sum(len(s) for s in self.scales)

    def restore(self, multipliers: Array) -> Multipliers:
        """T_1..T_L of all neurons from a vector of those of the kept ones."""
        cuts = np.cumsum([len(s) for s in self.scales])[:-1]
        unscaled = [t / s**2 for t, s in zip(np.split(multipliers, cuts), self.scales, strict=True)]
        positive = np.concatenate(unscaled) if self.n_kept else np.ones(1)
        largest, smallest = float(positive.max()), float(positive.min())
        depth = len(self.scales)
        blocks = []
        for i, (t, kept, unheard) in enumerate(zip(unscaled, self.kept, self.unheard, strict=True)):
            block = np.full(len(kept), largest * SILENT * STEP ** (depth - i))
            block[unheard] = smallest / SILENT / STEP**i
            block[kept] = t
            blocks.append(block)
        return tuple(blocks)
