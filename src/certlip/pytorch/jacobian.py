"""Jacobians of a network at a batch of points as linear maps, v -> J v and u -> J' u, and their spectral norms.

Floating-point proposals, one Jacobian a point, never formed as matrices; `certlip.proof.tangent` proves what comes of
them. They are computed in units in which nothing under- or overflows: of the Jacobian, and of the values between the
layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from certlip.network import ACTIVATIONS, LINEAR, Activation, Array, Linear, Network, Softmax
from certlip.network.scaling import scale_network
from certlip.pytorch.modules import Abs, Along, Sorted
from certlip.pytorch.to_torch import ELEMENTWISE, chain_to_torch

_LEAKY = (nn.ReLU, nn.LeakyReLU, nn.PReLU, Abs)
_STRAIGHT = tuple(
    getattr(nn, row.torch) for row in ACTIVATIONS.values() if row.torch and not row.curvature(*row.parameters.values())
)
"""Modules whose slopes do not change between kinks; torch has no second derivative of some."""

_LARGEST = 2.0**500
"""Weights and biases are cut off here where values cannot be rescaled: squares of sums stay finite."""


@dataclass(frozen=True, eq=False)
class Rescaled:
    """A network for the search: values takes the activations to points of the same slopes, increments has 2^-exponent
    times its Jacobian. Both have the same modules."""

    values: nn.Sequential
    increments: nn.Sequential
    exponent: int

    @classmethod
    def of(cls, network: Network) -> Rescaled:
        """Layers divided by powers of two.

        Piecewise linear activations only move the factor from their inputs to their outputs; what feeds a smooth one
        keeps its size.
        """
        scaled = scale_network(network)
        values, total = [], 0
        for index, layer in enumerate(network.layers):
            if isinstance(layer, LINEAR):
                before = total
                total = 0 if _feeds_smooth(network, index) else total + scaled.exponents[index]
                layer = _divided(layer, total - before, total)
            values.append(layer)
        rescaled = Network(tuple(values), network.input_shape)
        return cls(chain_to_torch(rescaled), chain_to_torch(scaled.network), sum(scaled.exponents))


def _feeds_smooth(network: Network, index: int) -> bool:
    """Whether a layer that is not positively homogeneous stands between this one and the next linear one."""
    for layer in network.layers[index + 1 :]:
        if isinstance(layer, LINEAR):
            return False
        if isinstance(layer, Softmax) or (isinstance(layer, Activation) and not layer.row.homogeneous):
            return True
    return False


def _divided(layer: Linear, of_weight: int, of_bias: int) -> Linear:
    def divided(array: Array, exponent: int) -> Array:
        with np.errstate(over="ignore", under="ignore"):
            return np.clip(np.ldexp(array, -exponent), -_LARGEST, _LARGEST)

    return replace(layer, weight=divided(layer.weight, of_weight), bias=divided(layer.bias, of_bias))


@dataclass(frozen=True, eq=False)
class Linearised:
    """The derivative of a network at each point of a batch."""

    steps: tuple[Callable[[Tensor], Tensor], ...]

    def push(self, directions: Tensor) -> Tensor:
        """J v for each point; directions: (batch, *input_shape)."""
        for step in self.steps:
            directions = step(directions)
        return directions

    def gram(self, directions: Tensor) -> tuple[Tensor, Tensor]:
        """J' J v and |J v| for each point."""
        directions = directions.detach().requires_grad_()
        with torch.enable_grad():
            images = self.push(directions)
            (pulled,) = torch.autograd.grad(images, directions, images.detach())
        return pulled, images.detach().flatten(1).norm(dim=1)


def linearise(network: Rescaled, points: Tensor, temperature: float = 0.0) -> Linearised:
    """The derivative at `points` (batch, *input_shape), divided by 2^`network.exponent`.

    temperature: how far, in standard deviations of a layer's inputs, the slope at a kink is smeared out, so that the
    derivative can be differentiated by the points; 0 leaves it exact.
    """
    steps: list[Callable[[Tensor], Tensor]] = []
    for of_values, of_increments in zip(network.values, network.increments, strict=True):
        steps.append(_derivative(of_increments, points, temperature))
        points = of_values(points)
    return Linearised(tuple(steps))


def spectral_norms(derivative: Linearised, directions: Tensor, n_iter: int) -> tuple[Tensor, Tensor]:
    """Power iteration for each point: estimates from below of |J|, and the unit directions that attain them.

    Zero where a value overflowed.
    """
    directions = unit(directions)
    for _ in range(n_iter):
        pulled, _ = derivative.gram(directions)
        alive = pulled.flatten(1).norm(dim=1) > 0
        directions = torch.where(_column(alive, pulled), unit(pulled), directions)
    with torch.no_grad():
        norms = derivative.push(directions).flatten(1).norm(dim=1)
        return norms.nan_to_num(nan=0.0, posinf=0.0), directions


def unit(directions: Tensor) -> Tensor:
    """Each direction of the batch divided by its length; zero stays zero."""
    largest = directions.flatten(1).abs().amax(dim=1)
    scaled = directions / _column(torch.where(largest > 0, largest, 1.0), directions)
    return scaled / _column(scaled.flatten(1).norm(dim=1).clamp(min=1.0), directions)


def _column(per_point: Tensor, like: Tensor) -> Tensor:
    return per_point.reshape(-1, *[1] * (like.dim() - 1))


def _derivative(module: nn.Module, points: Tensor, temperature: float) -> Callable[[Tensor], Tensor]:
    match module:
        case nn.Conv2d():
            return lambda v: F.conv2d(
                v, module.weight, None, module.stride, module.padding, module.dilation, module.groups
            )
        case nn.Linear():
            return lambda v: F.linear(v, module.weight)
        case Along():
            return module.linear
        case nn.MaxPool2d():
            indices = F.max_pool2d(
                points.detach(),
                module.kernel_size,
                module.stride,
                module.padding,
                ceil_mode=module.ceil_mode,
                return_indices=True,
            )[1]
            return lambda v: v.flatten(2).gather(2, indices.flatten(2)).reshape(indices.shape)
        case Sorted():
            order = points.detach().sort(module.dim).indices
            return lambda v: v.gather(module.dim, order)
        case nn.Softmax() | nn.LogSoftmax():
            axis = int(module.dim or 0)
            p = torch.softmax(points, axis)
            scale = 1.0 if isinstance(module, nn.LogSoftmax) else p
            return lambda v: scale * (v - (p * v).sum(axis, keepdim=True))
        case _ if isinstance(module, ELEMENTWISE):
            slopes = _slopes(module, points, temperature)
            return lambda v: slopes * v
        case _:  # moves entries: linear
            return module


def _slopes(module: nn.Module, z: Tensor, temperature: float) -> Tensor:
    if not isinstance(module, _LEAKY):
        with torch.enable_grad():
            points = z if z.requires_grad else z.detach().requires_grad_()
            curved = z.requires_grad and not isinstance(module, _STRAIGHT)
            (slopes,) = torch.autograd.grad(module(points).sum(), points, create_graph=curved)
        return slopes if curved else slopes.detach() + 0.0 * z
    left = _left_slope(module, z)
    if temperature == 0:
        return torch.where(z > 0, 1.0, left).to(z.dtype)
    width = temperature * z.detach().std().clamp(min=1e-300)
    return left + (1 - left) * torch.sigmoid(z / width)


def _left_slope(module: nn.Module, z: Tensor) -> float | Tensor:
    """Of negative inputs, shaped to be broadcast over z (batch, channels, ...) where channels differ."""
    if isinstance(module, nn.PReLU):
        return module.weight.detach().reshape(-1, *[1] * (z.dim() - 2))
    return -1.0 if isinstance(module, Abs) else float(getattr(module, "negative_slope", 0.0))
