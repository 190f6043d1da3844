"""`Network` -> torch, for methods that need automatic differentiation."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from certlip.network import Activation, Array, Concat, Conv, Dense, Flatten, Join, Layer, MaxPool, Network, Sum
from certlip.pytorch.layers import Abs


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


class _Joined(nn.Module):
    def __init__(self, layer: Join) -> None:
        super().__init__()
        self.axis = layer.axis if isinstance(layer, Concat) else None
        if isinstance(layer, Sum):
            self.register_buffer("offset", torch.tensor(layer.offset))
            for i, factor in enumerate(layer.factors):
                self.register_buffer(f"factor{i}", torch.tensor(factor))

    def forward(self, *values: torch.Tensor) -> torch.Tensor:
        if self.axis is not None:
            return torch.cat(values, self.axis + 1)
        total = self.get_buffer("offset").expand(values[0].shape[1:])
        for i, value in enumerate(values):
            total = total + self.get_buffer(f"factor{i}") * value
        return total


def _modules(layer: Layer) -> list[nn.Module]:
    match layer:
        case Conv():
            return _convolution(layer)
        case Dense():
            n_out, n_in = layer.weight.shape
            return [_filled(nn.Linear(n_in, n_out, device="meta"), layer.weight, layer.bias)]
        case Activation():
            return [_activation(layer)]
        case MaxPool():
            return [nn.MaxPool2d(layer.kernel, layer.stride, layer.padding)]
        case Flatten():
            return [nn.Flatten()]
        case Sum() | Concat():
            return [_Joined(layer)]


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
        case "relu":
            return nn.ReLU()
        case "leaky_relu":
            return _leaky(layer.negative_slope)
        case "tanh":
            return nn.Tanh()
        case "sigmoid":
            return nn.Sigmoid()
        case "abs":
            return Abs()
        case _:
            return nn.Identity()


def _leaky(negative_slope: float | Array) -> nn.Module:
    if not isinstance(negative_slope, np.ndarray):
        return nn.LeakyReLU(negative_slope)
    module = nn.PReLU(len(negative_slope), device="meta")
    module.weight = _parameter(negative_slope)
    return module
