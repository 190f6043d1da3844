"""Linear layers as operators that are applied, never written out as matrices: for layers too large for that."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any

import numpy as np
import scipy

from certlip.network import Array, Conv, Dense, Gather, Linear, Shape
from certlip.network.chain import LinearGroup


def compose(group: LinearGroup) -> Array | scipy.sparse.linalg.LinearOperator:
    """The linear map of layers that follow each other, on flattened maps; the weight itself of a single dense layer."""
    if len(group) == 1 and isinstance(group[0][0], Dense):
        return group[0][0].weight
    return reduce(lambda before, after: after @ before, (_operator(layer, shape) for layer, shape in group))


def _operator(layer: Linear | Gather, shape: Shape) -> scipy.sparse.linalg.LinearOperator:
    if isinstance(layer, Conv):
        return convolution(layer, shape)
    return scipy.sparse.linalg.aslinearoperator(layer.weight if isinstance(layer, Dense) else layer.matrix(shape))


def convolution(layer: Conv, shape: Shape) -> scipy.sparse.linalg.LinearOperator:
    """A convolution without its bias on inputs of `shape`, and its adjoint."""
    import torch
    from torch.nn.functional import conv2d, pad
    from torch.nn.grad import conv2d_input

    output_shape = layer.output_shape(shape)
    top, bottom, left, right = layer.padding
    padded = (1, shape[0], shape[1] + top + bottom, shape[2] + left + right)
    weight = torch.from_numpy(np.ascontiguousarray(layer.weight))
    options: Any = {"stride": layer.stride, "dilation": layer.dilation, "groups": layer.groups}

    def apply(x: Array) -> Array:
        image = torch.from_numpy(np.ascontiguousarray(x)).reshape(1, *shape)
        return conv2d(pad(image, (left, right, top, bottom)), weight, **options).numpy().ravel()

    def apply_adjoint(y: Array) -> Array:
        image = torch.from_numpy(np.ascontiguousarray(y)).reshape(1, *output_shape)
        gradient = conv2d_input(padded, weight, image, **options)
        return gradient[:, :, top : top + shape[1], left : left + shape[2]].numpy().ravel()

    size = math.prod(output_shape), math.prod(shape)
    return scipy.sparse.linalg.LinearOperator(size, matvec=apply, rmatvec=apply_adjoint, dtype=np.float64)
