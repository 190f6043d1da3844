"""`Network` -> torch, for methods that need automatic differentiation."""

from __future__ import annotations

from typing import assert_never

import numpy as np
import torch
from torch import nn

from certlip.network import (
    ACTIVATIONS,
    Activation,
    Along,
    Array,
    Concat,
    Conv,
    Dense,
    Flatten,
    Gather,
    Layer,
    Maximum,
    MaxPool,
    Network,
    Reshape,
    Softmax,
    Sort,
    Sum,
)
from certlip.pytorch import modules as own

ELEMENTWISE = (
    own.Abs,
    nn.PReLU,
    *(getattr(nn, row.torch) for kind, row in ACTIVATIONS.items() if row.torch and kind != "identity"),
)
"""Modules of activations that are more than the identity."""


def to_torch(network: Network) -> nn.Module:
    """A float64 module in eval mode that computes `network` on (batch, *input_shape); its weights are copies."""
    return chain_to_torch(network) if network.is_chain else _Graph(network).eval()


def chain_to_torch(network: Network) -> nn.Sequential:
    """The same for a chain, a module or two for each layer."""
    return nn.Sequential(*(module for layer in network.layers for module in _modules(layer))).eval()


class _Graph(nn.Module):
    """A network that is no chain."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        modules = [_modules(layer) for layer in network.layers]
        self.layers = nn.ModuleList(found[0] if len(found) == 1 else nn.Sequential(*found) for found in modules)
        self.sources = network.sources

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        values = [inputs]
        for layer, sources in zip(self.layers, self.sources, strict=True):
            values.append(layer(*(values[s] for s in sources)))
        return values[-1]


def _modules(layer: Layer) -> list[nn.Module]:
    match layer:
        case Conv():
            return _convolution(layer)
        case Dense():
            n_out, n_in = layer.weight.shape
            return [_filled(nn.Linear(n_in, n_out, device="meta"), layer.weight, layer.bias)]
        case Along():
            return [own.Along(layer)]
        case Gather():
            return [own.Gather(layer)]
        case Activation():
            return [_activation(layer)]
        case MaxPool():
            return [nn.MaxPool2d(layer.kernel, layer.stride, layer.padding, ceil_mode=layer.ceil)]
        case Sort():
            return [own.Sorted(layer.axis + 1)]
        case Softmax():
            return [nn.LogSoftmax(layer.axis + 1) if layer.log else nn.Softmax(layer.axis + 1)]
        case Flatten():
            return [nn.Flatten()]
        case Reshape():
            return [own.Reshape(layer)]
        case Sum() | Concat() | Maximum():
            return [own.Joined(layer)]
        case _:
            assert_never(layer)


def _convolution(layer: Conv) -> list[nn.Module]:
    top, bottom, left, right = layer.padding
    symmetric = top == bottom and left == right
    convolution = nn.Conv2d(
        layer.weight.shape[1] * layer.groups,
        layer.weight.shape[0],
        (layer.weight.shape[2], layer.weight.shape[3]),
        layer.stride,
        (top, left) if symmetric else 0,
        layer.dilation,
        layer.groups,
        device="meta",
    )
    before = [] if symmetric else [nn.ZeroPad2d((left, right, top, bottom))]
    return [*before, _filled(convolution, layer.weight, layer.bias)]


def _filled(module: nn.Conv2d | nn.Linear, weight: Array, bias: Array) -> nn.Module:
    module.weight, module.bias = _parameter(weight), _parameter(bias)
    return module


def _parameter(array: Array) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(array, dtype=np.float64)))


def _activation(layer: Activation) -> nn.Module:
    match layer.kind:
        case "leaky_relu":
            return _leaky(layer.negative_slope)
        case "abs":
            return own.Abs()
        case "gelu_tanh":
            return nn.GELU(approximate="tanh")
        case _:
            module: nn.Module = getattr(nn, layer.row.torch)(*layer.parameters)
            return module


def _leaky(negative_slope: float | Array) -> nn.Module:
    if not isinstance(negative_slope, np.ndarray):
        return nn.LeakyReLU(negative_slope)
    module = nn.PReLU(len(negative_slope), device="meta")
    module.weight = _parameter(negative_slope)
    return module
