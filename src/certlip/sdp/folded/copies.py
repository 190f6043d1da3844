"""Blocks with equal weights side by side: what the ascent does inside the patches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from certlip.network import Array
from certlip.proof.lmi import Multipliers
from certlip.sdp.folded.problem import Block
from certlip.sdp.structured.neurons import Neurons
from certlip.sdp.structured.rows import TINY, VANISHED, spheres, thin, unit

if TYPE_CHECKING:
    from torch import Tensor


class Copies:
    """The rows of n_copies blocks with the same weights have shape (n, n_copies, rank).

    positions: of the blocks in their stage; n_in, hidden: entries of the input and of each hidden layer; last: the
    last matrix as the ascent sees it.
    """

    def __init__(self, blocks: Sequence[Block], positions: Sequence[int], last: Array) -> None:
        lmi = blocks[0].lmi
        self.blocks, self.positions, self.n_in = list(blocks), list(positions), lmi.sizes[0]
        self._neurons = Neurons.of([*lmi.weights[:-1], last], lmi.slopes)
        weights = [_tensor(w) for w in self._neurons.weights]
        self._layers = [(thin(w), thin(w.T)) for w in weights]
        self._spheres = [spheres(slopes, weights[-1], n_axes=3) for slopes in self._neurons.slopes]
        self.hidden = [w.shape[1] for w in self._neurons.weights[1:]]
        self.multipliers: list[Tensor] = []

    def forward(self, x: Tensor, directions: Sequence[Tensor]) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Output rows, and for each hidden layer its input with the norms of its rows."""
        trace = []
        for (weight, _), (m, h, _), s in zip(self._layers, self._spheres, directions, strict=False):
            y = _times(weight, x)
            norms = y.norm(dim=2, keepdim=True)
            trace.append((y, norms))
            x = m * y + h * norms * s
        return _times(self._layers[-1][0], x), trace

    def backward(self, u: Tensor, trace: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        """Gradient in x from the one in the output, better directions, and the multipliers T_1..T_L they have."""
        u = _times(self._layers[-1][1], u)
        improved, quotients = [], []
        for i in reversed(range(len(trace))):
            (y, norms), (m, h, h_divisor) = trace[i], self._spheres[i]
            sizes, divisors = u.norm(dim=2, keepdim=True), norms.clamp_min(TINY)
            improved.append(unit(u))
            quotient = sizes / divisors / (2 * h_divisor)
            # negative where it means nothing
            largest = norms.max() if norms.numel() else 0.0  # a layer may have lost all its neurons
            quotients.append(quotient.where(norms > VANISHED * largest, -quotient.new_ones(1))[..., 0])
            u = _times(self._layers[i][1], m * u + h * sizes * (y / divisors))
        return u, improved[::-1], quotients[::-1]

    def keep(self, quotients: Sequence[Tensor]) -> None:
        """Remember multipliers, the old ones where the new ones mean nothing."""
        old = self.multipliers or [q.abs() for q in quotients]
        self.multipliers = [q.where(q >= 0, o) for q, o in zip(quotients, old, strict=True)]

    def restore(self, copy: int, factor: float) -> Multipliers:
        """T_1..T_L of all neurons of one block, times a factor."""
        if not self.hidden:
            return ()
        found = np.concatenate([t[:, copy].numpy() for t in self.multipliers])
        return tuple(factor * t for t in self._neurons.restore(found))


def _times(weight: Tensor, rows: Tensor) -> Tensor:
    return (weight @ rows.flatten(1)).view(weight.shape[0], *rows.shape[1:])


def _tensor(weight: Array) -> Tensor:
    import torch

    return torch.tensor(np.ascontiguousarray(weight), dtype=torch.float64)
