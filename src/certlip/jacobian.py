"""Jacobians of a network at a batch of points as linear maps, v -> J v and u -> J' u, and their spectral norms.

Floating-point proposals, one Jacobian a point, never formed as matrices; `certlip.tangent` proves what comes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from certlip.network import Network
from certlip.torch_layers import Abs
from certlip.torch_network import to_torch

_ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, Abs, nn.Tanh, nn.Sigmoid)


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


def linearise(network: Network, points: Tensor, temperature: float = 0.0) -> Linearised:
    """The derivative at `points` (batch, *input_shape).

    temperature: how far, in standard deviations of a layer's inputs, the slope at a kink is smeared out, so that the
    derivative can be differentiated by the points; 0 leaves it exact.
    """
    steps: list[Callable[[Tensor], Tensor]] = []
    for module in to_torch(network):
        steps.append(_derivative(module, points, temperature))
        points = module(points)
    return Linearised(tuple(steps))


def spectral_norms(derivative: Linearised, directions: Tensor, n_iter: int) -> tuple[Tensor, Tensor]:
    """Power iteration for each point: estimates from below of |J|, and the unit directions that attain them."""
    directions = unit(directions)
    for _ in range(n_iter):
        pulled, _ = derivative.gram(directions)
        alive = pulled.flatten(1).norm(dim=1) > 0
        directions = torch.where(_column(alive, pulled), unit(pulled), directions)
    with torch.no_grad():
        return derivative.push(directions).flatten(1).norm(dim=1), directions


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
        case nn.MaxPool2d():
            indices = F.max_pool2d(
                points.detach(), module.kernel_size, module.stride, module.padding, return_indices=True
            )[1]
            return lambda v: v.flatten(2).gather(2, indices.flatten(2)).reshape(indices.shape)
        case _ if isinstance(module, _ELEMENTWISE):
            slopes = _slopes(module, points, temperature)
            return lambda v: slopes * v
        case _:  # flatten, zero padding, identity: linear
            return module


def _slopes(module: nn.Module, z: Tensor, temperature: float) -> Tensor:
    if isinstance(module, nn.Tanh):
        return 1 - torch.tanh(z) ** 2
    if isinstance(module, nn.Sigmoid):
        return torch.sigmoid(z) * (1 - torch.sigmoid(z))
    left = -1.0 if isinstance(module, Abs) else float(getattr(module, "negative_slope", 0.0))
    if temperature == 0:
        return torch.where(z > 0, 1.0, left).to(z.dtype)
    width = temperature * z.detach().std().clamp(min=1e-300)
    return left + (1 - left) * torch.sigmoid(z / width)
