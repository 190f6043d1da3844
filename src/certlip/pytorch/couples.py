"""Layers that move no further together than apart, written as one sorting: CReLU, and both extremes of a pair.

relu(x) and relu(-x) are, up to a sign, the larger and the smaller of x and 0. Apart their constants would add up.
"""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np

from certlip.network import Activation, Concat, Flatten, Gather, Layer, Network, Reshape, Shape, Sort, Sum
from certlip.pytorch.moving import simplest


def with_couples(network: Network) -> Network:
    """The same function, without what its output does not need."""
    draft = _Draft(network)
    for value in range(1, len(network.layers) + 1):
        draft.add(value)
    return draft.network()


class _Draft:
    """at: positions in the new network of the values of the old one."""

    def __init__(self, given: Network) -> None:
        self._given, self._layers, self._sources, self._at = given, list[Layer](), list[tuple[int, ...]](), [0]
        self._sorts = any(isinstance(layer, Sort) for layer in given.layers)
        self._known: dict[Any, int] = {}

    def add(self, value: int) -> None:
        layer, here = self._given.layers[value - 1], tuple(self._at[s] for s in self._given.sources[value - 1])
        if rectified := _both_signs(self._given, value):
            source, axis, positive_first = rectified
            reached = self._at[source]
            for one in _crelu(layer.name, self._given.shapes[source], axis, positive_first):
                reached = self._one(one, (reached,))
        elif isinstance(layer, Concat) and (joined := self._chosen_together(layer, here)) is not None:
            (reached,) = self._sources[here[0] - 1]
            for one in joined:
                reached = self._one(one, (reached,))
        else:
            reached = self._one(layer, here)
        self._at.append(reached)

    def _one(self, layer: Layer, here: tuple[int, ...]) -> int:
        """The layer, or one that is there already and says the same."""
        key = None
        if self._sorts and isinstance(layer, Reshape | Flatten | Gather | Sort):
            options = [getattr(layer, field.name) for field in fields(layer) if field.name != "name"]
            key = (type(layer), here, *((o.tobytes(), o.shape) if isinstance(o, np.ndarray) else o for o in options))
            if key in self._known:
                return self._known[key]
        self._layers.append(layer)
        self._sources.append(here)
        if key is not None:
            self._known[key] = len(self._layers)
        return len(self._layers)

    def _chosen_together(self, layer: Concat, here: tuple[int, ...]) -> list[Layer] | None:
        """One choice of the entries of a sorting for several that stand side by side."""
        parts = [self._layers[place - 1] for place in here if place]
        indices = [part.index for part in parts if isinstance(part, Gather)]
        if len(indices) < len(here) or len({self._sources[place - 1] for place in here}) > 1:
            return None
        (source,) = self._sources[here[0] - 1]
        if not source or not isinstance(self._layers[source - 1], Sort):
            return None
        shape = Network(tuple(self._layers), self._given.input_shape, tuple(self._sources)).shapes[source]
        return simplest(layer.name, np.concatenate(indices, axis=layer.axis), shape)

    def network(self) -> Network:
        """What leads to the output."""
        needed = {self._at[-1]}
        for place in range(len(self._layers), 0, -1):
            if place in needed:
                needed.update(self._sources[place - 1])
        kept = sorted(needed - {0})
        new = {0: 0, **{place: k for k, place in enumerate(kept, start=1)}}
        layers = tuple(self._layers[place - 1] for place in kept)
        sources = tuple(tuple(new[s] for s in self._sources[place - 1]) for place in kept)
        return Network(layers, self._given.input_shape, sources)


def _both_signs(network: Network, value: int) -> tuple[int, int, bool] | None:
    """The x and the axis of relu(x) and relu(-x) side by side, and whether they stand in this order; None for anything
    else."""
    layer, sources = network.layers[value - 1], network.sources[value - 1]
    if _is_relu(layer) and sources[0]:
        joint, parts = network.layers[sources[0] - 1], network.sources[sources[0] - 1]
    elif all(source and _is_relu(network.layers[source - 1]) for source in sources):
        joint, parts = layer, tuple(network.sources[source - 1][0] for source in sources)
    else:
        return None
    if not isinstance(joint, Concat) or len(parts) != 2:
        return None
    first, second = parts
    if _is_negative(network, second, first):
        return first, joint.axis, True
    return (second, joint.axis, False) if _is_negative(network, first, second) else None


def _is_relu(layer: Layer) -> bool:
    return isinstance(layer, Activation) and layer.kind == "relu"


def _is_negative(network: Network, value: int, of: int) -> bool:
    layer = network.layers[value - 1] if value else None
    if not isinstance(layer, Sum) or network.sources[value - 1] != (of,):
        return False
    return bool((layer.factors[0] == -1).all() and not layer.offset.any())


def _crelu(name: str, shape: Shape, axis: int, positive_first: bool) -> list[Layer]:
    """x beside zero, sorted; the larger ones are relu(x), the smaller ones -relu(-x)."""
    n = math.prod(shape)
    own = np.arange(float(n)).reshape(shape)
    parts = (n + own, own) if positive_first else (own, n + own)
    return [
        Gather(f"{name} beside zero", np.stack([np.full(shape, -1.0), own])),
        Sort(name, 0),
        Sum(f"{name} signs", (np.array([-1.0, 1.0]).reshape(2, *[1] * len(shape)),), np.array(0.0)),
        Gather(f"{name} parts", np.concatenate(parts, axis=axis)),
    ]
