"""`Network` -> torch, for methods that need automatic differentiation."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from certlip.network import Activation, Array, Conv, Dense, Flatten, Layer, MaxPool, Network
from certlip.pytorch.layers import Abs


def to_torch(network: Network) -> nn.Sequential:
    """A float64 module in eval mode that computes `network` on (batch, *input_shape); its weights are copies."""
    modules: list[nn.Module] = []
    for layer in network.layers:
        modules += _modules(layer)
    return nn.Sequential(*modules).eval()


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
