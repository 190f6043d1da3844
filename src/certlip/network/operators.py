"""Layers as linear operators: sparse matrices by definition, and the forward map of a network, in float64."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.lib.stride_tricks import sliding_window_view

from certlip.network import Activation, Array, Concat, Conv, Dense, Flatten, Layer, MaxPool, Network, Shape, Sum
from certlip.network.slopes import along_channels


def matrix(layer: Conv | Dense, shape: Shape) -> scipy.sparse.csr_array:
    """The layer's linear part as a sparse (n_out, n_in) matrix on flattened, row-major maps.

    shape: the layer's input shape. Every stored entry is a weight, no arithmetic is done on it.
    """
    if isinstance(layer, Dense):
        return scipy.sparse.csr_array(layer.weight)
    c_in, height, width = shape
    c_out, rows, columns = layer.output_shape(shape)
    group_out, group_in = c_out // layer.groups, c_in // layer.groups
    # one entry a (output channel, input channel of its group, kernel row and column, output row and column)
    o, i, u, v, r, c = np.ix_(
        np.arange(c_out),
        np.arange(group_in),
        *map(np.arange, layer.weight.shape[2:]),
        np.arange(rows),
        np.arange(columns),
    )
    y = r * layer.stride[0] + u * layer.dilation[0] - layer.padding[0]
    x = c * layer.stride[1] + v * layer.dilation[1] - layer.padding[2]
    source = ((o // group_out * group_in + i) * height + y) * width + x
    target = (o * rows + r) * columns + c
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    source, target, inside, values = np.broadcast_arrays(source, target, inside, layer.weight[..., None, None])
    entries = (values[inside], (target[inside], source[inside]))
    return scipy.sparse.csr_array(entries, shape=(c_out * rows * columns, c_in * height * width))


def dense_kernel(layer: Conv) -> Array:
    """The kernel without groups: (c_out, c_in, k_h, k_w)."""
    if layer.groups == 1:
        return layer.weight
    c_out, group_in, k_h, k_w = layer.weight.shape
    group_out = c_out // layer.groups
    kernel = np.zeros((c_out, group_in * layer.groups, k_h, k_w))
    for g in range(layer.groups):
        rows = slice(g * group_out, (g + 1) * group_out)
        kernel[rows, g * group_in : (g + 1) * group_in] = layer.weight[rows]
    return kernel


def forward(network: Network, inputs: Array) -> Array:
    """Outputs of the network; inputs: (batch, *input_shape)."""
    return values_of(network, inputs)[-1]


def values_of(network: Network, inputs: Array) -> list[Array]:
    """Inputs, and the value of each layer; inputs: (batch, *input_shape)."""
    values = [np.asarray(inputs, dtype=np.float64)]
    for layer, sources in zip(network.layers, network.sources, strict=True):
        values.append(apply(layer, *(values[s] for s in sources)))
    return values


def apply(layer: Layer, *inputs: Array) -> Array:
    """One layer on a batch of each of its sources: (batch, *shape) -> (batch, *layer.output_shape(shape))."""
    values = inputs[0]
    match layer:
        case Dense():
            return values @ layer.weight.T + layer.bias
        case Conv():
            return _convolve(layer, values)
        case Activation():
            return _activate(layer, values)
        case MaxPool():
            pad = [(0, 0), (0, 0), (layer.padding[0],) * 2, (layer.padding[1],) * 2]
            padded = np.pad(values, pad, constant_values=-np.inf)
            windows = sliding_window_view(padded, layer.kernel, axis=(2, 3))
            return windows[:, :, :: layer.stride[0], :: layer.stride[1]].max(axis=(-2, -1))
        case Flatten():
            return values.reshape(len(values), -1)
        case Sum(factors=factors, offset=offset):
            return offset + sum(factor * value for factor, value in zip(factors, inputs, strict=True))
        case Concat(axis=axis):
            return np.concatenate(inputs, axis=axis + 1)


def _convolve(layer: Conv, values: Array) -> Array:
    top, bottom, left, right = layer.padding
    padded = np.pad(values, [(0, 0), (0, 0), (top, bottom), (left, right)])
    windows = sliding_window_view(padded, layer.kernel_extent, axis=(2, 3))
    windows = windows[:, :, :: layer.stride[0], :: layer.stride[1], :: layer.dilation[0], :: layer.dilation[1]]
    grouped_windows = np.split(windows, layer.groups, axis=1)
    grouped_weights = np.split(layer.weight, layer.groups, axis=0)
    outputs = [
        np.einsum("bcijuv,ocuv->boij", x, w, optimize=True)
        for x, w in zip(grouped_windows, grouped_weights, strict=True)
    ]
    return np.concatenate(outputs, axis=1) + layer.bias[:, None, None]


def _activate(layer: Activation, values: Array) -> Array:
    match layer.kind:
        case "relu":
            return np.maximum(values, 0.0)
        case "leaky_relu":
            return np.where(values > 0, values, along_channels(layer.negative_slope, values.ndim - 1) * values)
        case "tanh":
            return np.tanh(values)
        case "sigmoid":
            return scipy.special.expit(values)
        case "abs":
            return np.abs(values)
        case _:
            return values
