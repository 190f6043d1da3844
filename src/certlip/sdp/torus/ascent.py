"""Ascent on the dual of the torus relaxation: a sweep is a forward and a backward pass of the network on a few images.

With Z = V V' of r columns, each node's rows are, channel by channel, z = m y + h |y| s with |s| = 1, norms over the map
and the columns. Whatever x and s are, |C z|^2 / |x|^2 is a lower bound on rho. With u half the gradient of the value in
z, stationarity gives s = u / |u|, the multipliers t = |u| / (h |y|), and u goes on to y as m u + h |u| y / |y|. Sweeps
are extrapolated (Nesterov), and the extrapolation restarts when the value falls.

Columns live on several tori at once, `Columns`, whose sides divide those of the relaxation: the frequencies of a
smaller torus are some of the larger one's, so its images are columns that weigh on those alone. The mean sees frequency
0 only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d

from certlip.network import Array, Pair
from certlip.proof.torus_relaxation import POINT, Edge, Relaxation
from certlip.sdp.structured.rows import PLAIN_SWEEPS, TINY, VANISHED

NOISE = 0.03
"""Size of new columns beside the others."""
FIRST_COLUMNS = 8
"""Of a torus that is added."""


NEGLIGIBLE = 1e-6
"""A channel never heard gets this share of its node's largest multiplier, one that reads nothing as much more."""


class Columns(NamedTuple):
    """So many columns on a torus smaller by a divisor of the relaxation's sides, along rows and columns."""

    n: int
    divisor: Pair = (1, 1)


Maps = list[Tensor]
"""Of one node, (columns, channels, rows, columns of the torus) for each torus."""


@dataclass
class _Sweep:
    """value: |C z|^2; inputs, directions: better ones; multipliers: with a mask of the meaningful ones."""

    value: float
    inputs: Maps
    directions: list[Maps]
    multipliers: list[tuple[Tensor, Tensor]]


class Ascent:
    """State: x, s of each node, the multipliers of the last `settle`, and `lower`, the largest value so far."""

    def __init__(self, relaxation: Relaxation, columns: Sequence[Columns], seed: int = 0, device: str = "cpu") -> None:
        self.relaxation, self.columns = relaxation, list(columns)
        self._generator = torch.Generator().manual_seed(seed)
        self._device = device
        self._nodes = relaxation.nodes
        self._weights = {id(e): torch.from_numpy(np.ascontiguousarray(e.weight)).to(device) for e in self._edges()}
        self.inputs = self._unit_input([self._sample(torus, 0) for torus in self.columns])
        self.directions = [
            _unit([self._sample(torus, k) for torus in self.columns]) for k in range(1, len(self._nodes))
        ]
        self.multipliers = [torch.full((node.channels,), math.nan, dtype=torch.float64) for node in self._nodes[1:]]
        self.lower = 0.0
        self._age, self._last_value = 0, -math.inf
        self._last_inputs, self._last_directions = self.inputs, self.directions

    def _edges(self) -> list[Edge]:
        return [edge for node in self._nodes for edge in node.edges] + list(self.relaxation.output)

    def side(self, level: Pair, torus: Columns) -> Pair:
        rows, columns = self.relaxation.side(level)
        return (rows, columns) if level == POINT else (rows // torus.divisor[0], columns // torus.divisor[1])

    def _sample(self, torus: Columns, k: int) -> Tensor:
        node = self._nodes[k]
        shape = (torus.n, node.channels, *self.side(node.after, torus))
        return torch.randn(shape, dtype=torch.float64, generator=self._generator).to(self._device)

    def sweep(self) -> None:
        """One improvement of all rows, extrapolated."""
        found = self._improve(self.inputs, self.directions)
        if found.value < self._last_value:
            self._restart()
        self._last_value = found.value
        self.lower = max(self.lower, found.value)
        momentum = self._age / (self._age + 3)
        self._age += 1
        self.inputs = self._unit_input(_beyond(found.inputs, self._last_inputs, momentum))
        pairs = zip(found.directions, self._last_directions, strict=True)
        self.directions = [_unit(_beyond(new, old, momentum)) for new, old in pairs]
        self._last_inputs, self._last_directions = found.inputs, found.directions

    def settle(self) -> None:
        """Read the multipliers off a few plain sweeps from here; the state of the ascent stays."""
        inputs, directions = self.inputs, self.directions
        for _ in range(PLAIN_SWEEPS):
            found = self._improve(inputs, directions)
            self.lower = max(self.lower, found.value)
            inputs, directions = found.inputs, found.directions
            pairs = zip(found.multipliers, self.multipliers, strict=True)
            self.multipliers = [torch.where(present, t, old) for (t, present), old in pairs]

    def widen(self, divisor: Pair) -> None:
        """As many columns again on the torus of this divisor, small and random: a way out of maxima that only low rank
        makes."""
        known = next((i for i, torus in enumerate(self.columns) if torus.divisor == divisor), None)
        torus = Columns(FIRST_COLUMNS if known is None else self.columns[known].n, divisor)
        scale = NOISE / math.sqrt(sum(t.n * math.prod(self.side((1, 1), t)) for t in [*self.columns, torus]))

        def widened(maps: Maps, k: int) -> Maps:
            new = scale * self._sample(torus, k)
            if known is None:
                return [*maps, new]
            return [torch.cat([part, new]) if i == known else part for i, part in enumerate(maps)]

        self.inputs = self._unit_input(widened(self.inputs, 0))
        self.directions = [_unit(widened(s, k)) for k, s in enumerate(self.directions, start=1)]
        if known is None:
            self.columns.append(torus)
        else:
            self.columns[known] = Columns(2 * torus.n, divisor)
        self._restart()

    def _restart(self) -> None:
        self._age, self._last_value = 0, -math.inf
        self._last_inputs, self._last_directions = self.inputs, self.directions

    def _improve(self, inputs: Maps, directions: list[Maps]) -> _Sweep:
        values: list[Maps] = [inputs]
        read: list[tuple[Maps, Tensor]] = []
        for node, s in zip(self._nodes[1:], directions, strict=True):
            y = self._apply(node.edges, values)
            size = _norms(y)
            read.append((y, size))
            values.append([node.h * _spread(size) * part for part in s])
            if node.m:
                values[-1] = [z.add_(y_part, alpha=node.m) for z, y_part in zip(values[-1], y, strict=True)]
        output = self._apply(self.relaxation.output, values)
        gradients: list[Maps | None] = [None] * len(values)
        self._pull(self.relaxation.output, output, gradients, values)
        improved: list[Maps] = []
        multipliers = []
        for k in range(len(self._nodes) - 1, 0, -1):
            node, (y, size) = self._nodes[k], read[k - 1]
            u = gradients[k]
            gradients[k] = None
            if u is None:  # nothing reads it
                improved.append(directions[k - 1])
                multipliers.append((torch.ones_like(size).cpu(), torch.zeros_like(size, dtype=torch.bool).cpu()))
                continue
            pushed = _norms(u)
            heard = _spread(pushed > TINY)
            directed = zip(u, directions[k - 1], strict=True)
            improved.append([torch.where(heard, v / _spread(pushed.clamp_min(TINY)), s) for v, s in directed])
            present = size > VANISHED * size.max()
            multipliers.append(((pushed / size.clamp_min(TINY) / node.h).cpu(), present.cpu()))
            back = _spread(node.h * pushed / size.clamp_min(TINY))
            onward = [back * part for part in y]
            if node.m:
                onward = [v.add_(part, alpha=node.m) for v, part in zip(onward, u, strict=True)]
            self._pull(node.edges, onward, gradients, values)
        found = gradients[0] or inputs
        value = float(sum(part.square().sum() for part in output))
        return _Sweep(value, self._unit_input(found), improved[::-1], multipliers[::-1])

    def _apply(self, edges: Sequence[Edge], values: Sequence[Maps]) -> Maps:
        total: Maps = []
        for edge in edges:
            new = [self._push(edge, part, torus) for part, torus in zip(values[edge.source], self.columns, strict=True)]
            total = [a.add_(b) for a, b in zip(total, new, strict=True)] if total else new
        return total

    def _pull(self, edges: Sequence[Edge], u: Maps, gradients: list[Maps | None], values: Sequence[Maps]) -> None:
        for edge in edges:
            parts = zip(u, values[edge.source], self.columns, strict=True)
            new = [self._adjoint(edge, part, like, torus) for part, like, torus in parts]
            old = gradients[edge.source]
            gradients[edge.source] = new if old is None else [a.add_(b) for a, b in zip(old, new, strict=True)]

    def _push(self, edge: Edge, z: Tensor, torus: Columns) -> Tensor:
        weight = self._weights[id(edge)]
        if edge.mean:
            return conv2d(z.sum(dim=(2, 3), keepdim=True) * math.sqrt(math.prod(torus.divisor)), weight)
        rows, columns = _places(edge, z.shape[2:])
        if rows is not None and columns is not None:
            z = z[:, :, rows][:, :, :, columns]
        return conv2d(z, weight, stride=edge.stride, dilation=edge.dilation)

    def _adjoint(self, edge: Edge, u: Tensor, like: Tensor, torus: Columns) -> Tensor:
        weight = self._weights[id(edge)]
        if edge.mean:
            return conv_transpose2d(u * math.sqrt(math.prod(torus.divisor)), weight).expand_as(like).clone()
        v = conv_transpose2d(u, weight, stride=edge.stride, dilation=edge.dilation)
        rows, columns = _places(edge, like.shape[2:])
        if rows is None or columns is None:
            return v
        v = v.new_zeros(*v.shape[:2], like.shape[2], v.shape[3]).index_add_(2, rows, v)
        return v.new_zeros(like.shape).index_add_(3, columns, v)

    def _unit_input(self, maps: Maps) -> Maps:
        size = math.sqrt(sum(float(part.square().sum()) for part in maps)) or 1.0
        return [part / size for part in maps]

    def multiplier_arrays(self) -> list[Array]:
        """(channels,) for each node after the input; channels that never move or are never heard get what suits all."""
        arrays = []
        for node, t in zip(self._nodes[1:], (t.numpy().copy() for t in self.multipliers), strict=True):
            largest = float(np.nanmax(t, initial=0.0)) or 1.0
            reads = sum(np.abs(edge.weight).sum(axis=(1, 2, 3)) for edge in node.edges)
            t[np.isnan(t)] = largest
            t[reads == 0] = largest / NEGLIGIBLE
            arrays.append(np.maximum(t, NEGLIGIBLE * largest))
        return arrays


def _places(edge: Edge, side: Sequence[int]) -> tuple[Tensor | None, Tensor | None]:
    """Rows and columns of the torus in the order in which an unpadded convolution reads them; none for all of them."""
    indices = []
    for axis in (0, 1):
        extent = edge.dilation[axis] * (edge.weight.shape[2 + axis] - 1) + 1
        n_read = side[axis] - edge.stride[axis] + extent
        indices.append((torch.arange(n_read) - edge.offset[axis]) % side[axis])
    if all(len(i) == n and bool((i == torch.arange(n)).all()) for i, n in zip(indices, side, strict=True)):
        return None, None
    return indices[0], indices[1]


def _norms(maps: Maps) -> Tensor:
    """(channels,): over maps and columns of all tori."""
    return sum(part.square().sum(dim=(0, 2, 3)) for part in maps).sqrt()  # type: ignore[union-attr]


def _spread(channels: Tensor) -> Tensor:
    return channels[:, None, None]


def _unit(maps: Maps) -> Maps:
    size = _spread(_norms(maps).clamp_min(TINY))
    return [part / size for part in maps]


def _beyond(new: Maps, old: Maps, momentum: float) -> Maps:
    return [a + momentum * (a - b) for a, b in zip(new, old, strict=True)]
