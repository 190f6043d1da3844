"""Neurons that cannot matter are left out, all others scaled to unit input rows.

Both change the LMI by a congruence only. A neuron without input never moves, one without output is never
seen: their multipliers tend to infinity and to zero, where no interior-point method feels well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certlip.network import Array
from certlip.network.slopes import Slopes, half_widths, middles, of_neurons, steepest
from certlip.proof.lmi import Multipliers

SILENT = 1e12
"""How far the multiplier of a left-out neuron is from where those of kept neurons would feel it."""
ROOM = 2.0
"""Room between the multipliers of left-out neurons of neighbouring layers, for the estimates of norms as well."""
SMALLEST, LARGEST = 1e-250, 1e250
"""Of the multipliers of left-out neurons."""
CONSTANT = 1e-24
"""The level of the input's multiplier where no neuron matters."""


@dataclass(frozen=True, eq=False)
class Neurons:
    """The neurons that matter.

    weights: W_0..W_L without the others, rows of W_0..W_{L-1} of norm one; slopes: of the kept; kept: a mask for each
    hidden layer; unheard: mask of the neurons without output (the other left-out ones have no input); scales: for
    the kept neurons of each layer the norm of their input row; given, given_slopes: of all neurons.
    """

    weights: tuple[Array, ...]
    slopes: tuple[Slopes, ...]
    kept: tuple[NDArray[np.bool_], ...]
    unheard: tuple[NDArray[np.bool_], ...]
    scales: tuple[Array, ...]
    given: tuple[Array, ...]
    given_slopes: tuple[Slopes, ...]

    @classmethod
    def of(cls, weights: Sequence[Array], slopes: Sequence[Slopes]) -> Neurons:
        """Drop and scale; weights: W_0..W_L, slopes: of the L hidden layers."""
        given = [np.asarray(w, dtype=np.float64) for w in weights]
        left = list(given)
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
        left_slopes = tuple(of_neurons(s, k) for s, k in zip(slopes, kept, strict=False))
        masks = tuple(kept[:-1]), unheard[:-1]
        return cls(tuple(left), left_slopes, *masks, tuple(scales), tuple(given), tuple(slopes))

    @property
    def n_kept(self) -> int:
        return sum(len(s) for s in self.scales)

    def restore(self, multipliers: Array) -> Multipliers:
        """T_1..T_L of all neurons from a vector of those of the kept ones."""
        cuts = np.cumsum([len(s) for s in self.scales])[:-1]
        scaled = np.split(multipliers, cuts)
        blocks = [np.ones(len(kept)) for kept in self.kept]
        for block, kept, t, s in zip(blocks, self.kept, scaled, self.scales, strict=True):
            block[kept] = t / s**2
        self._lower_unheard(blocks, float(scaled[0].min()) if self.n_kept else CONSTANT)
        self._raise_unmoved(blocks)
        return tuple(blocks)

    def _lower_unheard(self, blocks: list[Array], level: float) -> None:
        """Give them one multiplier a layer, so small that no neuron before feels it; level: of the input's."""
        heard = np.ones(self.given[0].shape[1], dtype=bool)
        unheard, last = ~heard, 0.0
        layers = zip(blocks, self.given, self.kept, self.unheard, self.given_slopes, strict=False)
        for block, weight, kept, own, slopes in layers:
            rows = weight[own]
            shares = (level / SILENT, _squared_norm(rows[:, heard])), (last, _squared_norm(rows[:, unheard]))
            limits = [value / (_step(slopes) * norm) for value, norm in shares if norm]
            last = min(max(min(limits, default=level / SILENT), SMALLEST), LARGEST)
            block[own] = last
            level, heard, unheard = float(block[kept].min(initial=np.inf)), kept, own

    def _raise_unmoved(self, blocks: list[Array]) -> None:
        """Give them one multiplier a layer, so large that they do not feel what they feed."""
        after, unmoved, last = np.ones(len(self.given[-1])), np.zeros(len(self.given[-1]), dtype=bool), 0.0
        steps = [*map(_step, self.given_slopes[1:]), ROOM]
        for i in reversed(range(len(blocks))):
            own = ~(self.kept[i] | self.unheard[i])
            columns = self.given[i + 1][:, own]
            felt = SILENT * _squared_norm(np.sqrt(after[~unmoved])[:, None] * columns[~unmoved])
            level = steps[i] * (felt + last * _squared_norm(columns[unmoved]))
            last = min(max(level, SMALLEST), LARGEST) if level else 1.0
            blocks[i][own] = last
            after, unmoved = blocks[i], own


def _step(slopes: Slopes) -> float:
    """How much larger a layer's multiplier must be than that of the next, with these slopes, for a weight of norm 1."""
    steep, inclined = max(1.0, steepest(slopes)), np.max(np.abs(middles(slopes)) / half_widths(slopes))
    return ROOM * steep * steep * (1 + float(inclined))


def _squared_norm(matrix: Array) -> float:
    """About the square of the spectral norm."""
    from scipy.linalg import interpolative

    if not matrix.any():
        return 0.0
    largest = float(np.abs(matrix).max())
    norm = largest * float(interpolative.estimate_spectral_norm(matrix / largest, its=5, rng=0))
    return norm * norm
