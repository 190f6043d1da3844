"""Ascent on the norm of the Jacobian over the points of input space.

The Jacobian of a piecewise linear network does not change between kinks, so its norm has no useful gradient. Smearing
each kink out over a temperature gives one: a gate whose flip would raise |J v| pulls the point towards its hyperplane
from afar. The temperature falls to almost nothing on the way, v follows by one step of power iteration each time, and
the norms that count are those of the exact Jacobian.

The way to a maximum is chaotic: a last bit that another processor rounds otherwise would lead to another one. So steps
and directions are rounded coarsely, and the same on every machine but for a value that lies on the edge; to add a step
to a point is exact to the last bit everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import torch
from torch import Tensor

from certlip.pytorch import jacobian
from certlip.pytorch.jacobian import Rescaled

_POWER_STEPS = 10
_CHECK_EVERY = 10
_SMALLEST = 1e-300
_BITS, _NORM_BITS = 20, 30
"""Bits to which steps and directions are rounded, of their largest entry, and norms where they are compared."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Points (batch, *input_shape), directions of about the largest slope there, and these slopes (batch,)."""

    points: Tensor
    directions: Tensor
    norms: Tensor

    def best(self, n: int) -> Candidates:
        """The `n` with the largest norms, largest first."""
        order = _rounded(self.norms).argsort(descending=True, stable=True)[:n]
        return Candidates(self.points[order], self.directions[order], self.norms[order])

    def or_better(self, other: Candidates) -> Candidates:
        """For each place of the batch, the one with the larger norm."""
        better = _rounded(other.norms) > _rounded(self.norms)
        column = better.reshape(-1, *[1] * (self.points.dim() - 1))
        return Candidates(
            torch.where(column, other.points, self.points),
            torch.where(column, other.directions, self.directions),
            torch.where(better, other.norms, self.norms),
        )


def join(parts: Sequence[Candidates]) -> Candidates:
    """All candidates in one batch."""
    points, directions, norms = zip(*((p.points, p.directions, p.norms) for p in parts), strict=True)
    return Candidates(torch.cat(points), torch.cat(directions), torch.cat(norms))


def coarse(batch: Tensor) -> Tensor:
    """Each entry rounded to `_BITS` bits of the largest one of its place in the batch."""
    largest = batch.flatten(1).abs().amax(dim=1)
    unit = torch.ldexp(torch.ones_like(largest), torch.frexp(largest).exponent - _BITS)
    column = unit.clamp(min=_SMALLEST).reshape(-1, *[1] * (batch.dim() - 1))
    return torch.round(batch / column) * column


def _rounded(norms: Tensor) -> Tensor:
    """Each rounded to `_NORM_BITS` bits."""
    mantissa, exponent = torch.frexp(norms)
    return torch.ldexp(torch.round(torch.ldexp(mantissa, torch.tensor(_NORM_BITS))), exponent - _NORM_BITS)


def evaluate(network: Rescaled, points: Tensor, directions: Tensor) -> Candidates:
    """A few steps of power iteration on the exact Jacobian at each point."""
    norms, directions = jacobian.spectral_norms(jacobian.linearise(network, points), coarse(directions), _POWER_STEPS)
    return Candidates(points, coarse(directions), norms)


def ascend(
    network: Rescaled, start: Candidates, n_steps: int, temperatures: tuple[float, float], step: float, deadline: float
) -> Candidates:
    """The best candidate seen on the way from each start.

    temperatures: first and last, in standard deviations of a layer's inputs; step: length of the first move relative
    to the point, falling to zero; deadline: on the clock of `time.perf_counter`, after which no step begins.
    """
    hottest, coldest = temperatures
    length = step * _rounded(start.points.flatten(1).norm(dim=1).clamp(min=_SMALLEST))
    length = length.reshape(-1, *[1] * (start.points.dim() - 1))
    best, points, directions = start, start.points, start.directions
    for k in range(n_steps):
        if perf_counter() > deadline:
            break
        temperature = hottest * (coldest / hottest) ** (k / n_steps)
        uphill, directions = _gradients(network, points, directions, temperature)
        points = points + length * (1 - k / n_steps) * coarse(jacobian.unit(uphill))
        directions = coarse(directions)
        if (k + 1) % _CHECK_EVERY == 0 or k + 1 == n_steps:
            best = best.or_better(evaluate(network, points, directions))
    return best


def _gradients(network: Rescaled, points: Tensor, directions: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Gradient of log |J v| by each point, and the next v of power iteration, for the smeared Jacobian."""
    points, directions = points.detach().requires_grad_(), directions.detach().requires_grad_()
    with torch.enable_grad():
        images = jacobian.linearise(network, points, temperature).push(directions)
        growth = torch.log(images.flatten(1).square().sum(dim=1) + _SMALLEST).sum()
        by_point, by_direction = torch.autograd.grad(growth, (points, directions), materialize_grads=True)
    return by_point, jacobian.unit(by_direction)
