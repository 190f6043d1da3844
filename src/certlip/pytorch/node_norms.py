"""Numerical constants of one node of a graph: whether it is affine or elementwise, and how steep. Estimates, all."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from certlip.pytorch.graph import Node

_RTOL = 1e-9
_REACHES = (1e-6, 1e-3, 1.0, 10.0, 100.0, 1000.0)
_N_SAMPLES = 20_000
_NO_DERIVATIVE = ", whose values are not what its derivative says: it jumps, is random or was detached"

_JUMPS_BY_A_PARAMETER = ("fmod", "hardshrink", "mod", "remainder", "round", "threshold")
"""Functions whose jumps may lie where no sample does."""


def expect_derivative(node: Node) -> None:
    """Raise UnsupportedLayer if, by its name or type, the node's derivative does not say how far its values differ."""
    if not node.output.is_floating_point():
        raise node.refused(", which has no derivative")
    if node.operation.rpartition(".")[2].lower().strip("_") in _JUMPS_BY_A_PARAMETER:
        raise node.refused(_NO_DERIVATIVE)


def is_affine(node: Node) -> bool:
    """Whether the node looks affine in all its inputs together, at random points of several scales."""
    generator = torch.Generator().manual_seed(0)
    zero = [torch.zeros_like(x) for x in node.inputs]
    with torch.no_grad():
        offset = node.call(*zero)
        for scale in (1e-2, 1.0, 1e2):
            x, other = ([scale * _normal(v, generator) for v in node.inputs] for _ in range(2))
            # the second pair lies on both sides of zero, whatever x is
            for y in (other, [-2 * v for v in x]):
                images = [node.call(*p) for p in (x, y, [a + b for a, b in zip(x, y, strict=True)])]
                defect = (images[0] + images[1] - images[2] - offset).abs().max()
                if not defect <= _RTOL * max(float(image.abs().max()) for image in images):
                    return False
    return True


def power_method(node: Node, which: int, n_iter: int, seed: int) -> float:
    """Spectral norm of an affine node in one of its inputs, from below: v <- A' A v, normalised, `n_iter` times.

    A' A v is the gradient of 1/2 ||A v||^2; A v is the derivative of A' u by u, so that offsets do not enter. Powers of
    two are taken out before anything is squared. Raises UnsupportedLayer if A v is not what the node adds at v.
    """
    inputs = [torch.zeros_like(x) for x in node.inputs]
    x = inputs[which].requires_grad_()
    output = node.call(*inputs)
    v = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(seed))
    image, exponent = torch.zeros_like(output), 0
    if output.requires_grad:
        u = torch.zeros_like(output, requires_grad=True)
        (pulled,) = torch.autograd.grad(output, x, u, create_graph=True)
        following = v
        for _ in range(n_iter):
            v, _ = _mantissa(following)
            v = v / v.norm()
            (image,) = torch.autograd.grad(pulled, u, v, retain_graph=True)
            image, exponent = _mantissa(image)
            (following,) = torch.autograd.grad(output, x, image, retain_graph=True)
            if not following.any():
                break  # in the kernel, as everything is where A = 0
    with torch.no_grad():
        offset = node.call(*map(torch.zeros_like, inputs))
        added = node.call(*(v if i == which else torch.zeros_like(a) for i, a in enumerate(inputs))) - offset
        _expect_equal(node, math.ldexp(1.0, exponent) * image, added, offset)
        return math.ldexp(float(image.norm()), exponent)


def _expect_equal(node: Node, derivative: Tensor, added: Tensor, offset: Tensor) -> None:
    largest = max(float(derivative.abs().max()), float(added.abs().max()))
    if not math.isfinite(largest):
        raise node.refused(", which overflows")
    if not (derivative - added).abs().max() <= 1e-6 * largest + _RTOL * offset.abs().max():
        raise node.refused(_NO_DERIVATIVE)


def _mantissa(tensor: Tensor) -> tuple[Tensor, int]:
    """The tensor times 2^-k, its largest entry between 1/2 and 1, and k; zero and subnormal numbers stay smaller."""
    exponent = max(-1000, min(1000, math.frexp(float(tensor.abs().max()))[1]))
    return tensor * 2.0**-exponent, exponent


def sampled_slope(node: Node) -> float | None:
    """Steepest slope of an elementwise node, sampled on both sides of zero at several scales.

    None if it is not elementwise, or if the slope still grows at the smallest or largest scale. Raises UnsupportedLayer
    if its values differ by more than their slopes say.
    """
    if len(node.inputs) != 1 or node.inputs[0].shape != node.output.shape:
        return None
    generator = torch.Generator().manual_seed(0)
    shape = (max(4, _N_SAMPLES // node.output.numel()), *node.output.shape[1:])
    steepest, secants = [], []
    for reach in _REACHES:
        points = reach * (2 * torch.rand(shape, dtype=torch.float64, generator=generator) - 1)
        x = points.sort(dim=0).values.requires_grad_()
        signs = _signs(shape, generator)
        value = node.call(x)
        if not value.requires_grad:
            raise node.refused(_NO_DERIVATIVE)
        (column_sums,) = torch.autograd.grad(value.sum(), x, retain_graph=True)
        (signed,) = torch.autograd.grad((signs * value).sum(), x)
        # of a diagonal Jacobian D: 1' D and s' D differ by the signs s alone
        defect = (signs * signed - column_sums).abs().max()
        if not defect <= _RTOL * column_sums.abs().max():
            return None
        steepest.append(float(column_sums.abs().max()))
        secants.append(_steepest_secant(x.detach(), value.detach()))
    if max(steepest[0], steepest[-1]) > 1.001 * max(steepest[1:-1]):
        return None
    if not max(secants) <= 1.01 * max(steepest):
        raise node.refused(_NO_DERIVATIVE)
    return max(steepest)


def _steepest_secant(x: Tensor, value: Tensor) -> float:
    """Largest |difference of values| / |difference of points| of neighbours along the batch, rounding left out.

    x: sorted along the batch.
    """
    rises = value.diff(dim=0).abs() - 1e-12 * value.abs().max()
    return float((rises / x.diff(dim=0)).nan_to_num(0.0).max())


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, dtype=like.dtype, generator=generator)


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return 2.0 * torch.randint(0, 2, shape, generator=generator).double() - 1.0
