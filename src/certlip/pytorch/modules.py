"""Torch modules of layers that torch has none for."""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from certlip import network


class Abs(nn.Module):
    """Elementwise absolute value."""

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.abs()


class Along(nn.Module):
    """A matrix along one axis."""

    def __init__(self, layer: network.Along) -> None:
        super().__init__()
        self.axis = layer.axis + 1
        self.register_buffer("weight", torch.tensor(layer.weight))
        self.register_buffer("bias", torch.tensor(layer.bias))

    def linear(self, inputs: Tensor) -> Tensor:
        """Without the bias."""
        return (inputs.movedim(self.axis, -1) @ self.get_buffer("weight").T).movedim(-1, self.axis)

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs.movedim(self.axis, -1) @ self.get_buffer("weight").T + self.get_buffer("bias")).movedim(
            -1, self.axis
        )


class Gather(nn.Module):
    """Entries of the input, or zeros, moved to where the index says."""

    def __init__(self, layer: network.Gather) -> None:
        super().__init__()
        self.shape = layer.index.shape
        self.register_buffer("positions", torch.from_numpy(layer.positions % (layer.positions.max() + 2)))
        self.n_read = int(layer.positions.max()) + 1

    def forward(self, inputs: Tensor) -> Tensor:
        with_zero = F.pad(inputs.flatten(1)[:, : self.n_read], (0, 1))
        return with_zero[:, self.get_buffer("positions")].reshape(-1, *self.shape)


class Reshape(nn.Module):
    """The same entries in another shape."""

    def __init__(self, layer: network.Reshape) -> None:
        super().__init__()
        self.shape = layer.shape

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.reshape(-1, *self.shape)


class Sorted(nn.Module):
    """The values of `torch.sort`."""

    def __init__(self, dim: int = -1, descending: bool = False, stable: bool = False) -> None:
        super().__init__()
        self.dim, self.descending = dim, descending

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs.sort(self.dim, self.descending).values


class Joined(nn.Module):
    """A weighted sum, a maximum, or values side by side."""

    def __init__(self, layer: network.Join) -> None:
        super().__init__()
        self.axis = layer.axis if isinstance(layer, network.Concat) else None
        self.extreme: Any = None
        if isinstance(layer, network.Maximum):
            self.extreme = torch.minimum if layer.least else torch.maximum
        if isinstance(layer, network.Sum):
            self.register_buffer("offset", torch.tensor(layer.offset))
            for i, factor in enumerate(layer.factors):
                self.register_buffer(f"factor{i}", torch.tensor(factor))

    def forward(self, *values: Tensor) -> Tensor:
        if self.axis is not None:
            return torch.cat(values, self.axis + 1)
        if self.extreme is not None:
            return reduce(self.extreme, values)
        total = self.get_buffer("offset").expand(values[0].shape[1:])
        for i, value in enumerate(values):
            total = total + self.get_buffer(f"factor{i}") * value
        return total
