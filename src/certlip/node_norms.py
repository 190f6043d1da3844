"""Numerical constants of one node of a graph: whether it is affine or elementwise, and how steep. Estimates, all."""

from __future__ import annotations

import torch
from torch import Tensor

from certlip.graph import Node

_RTOL = 1e-9
_REACHES = (1e-6, 1e-3, 1.0, 10.0, 100.0, 1000.0)
_N_SAMPLES = 20_000


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

    A' A v is the gradient of 1/2 ||A v||^2; A v is the derivative of A' u by u, so that offsets do not enter.
    """
    inputs = [torch.zeros_like(x) for x in node.inputs]
    x = inputs[which].requires_grad_()
    output = node.call(*inputs)
    if not output.requires_grad:
        return 0.0
    u = torch.zeros_like(output, requires_grad=True)
    (pulled,) = torch.autograd.grad(output, x, u, create_graph=True)
    v = torch.randn(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(seed))
    image = torch.zeros_like(output)
    for _ in range(n_iter):
        v = v / v.norm()
        (image,) = torch.autograd.grad(pulled, u, v, retain_graph=True)
        (v,) = torch.autograd.grad(output, x, image, retain_graph=True)
        if not v.any():
            break  # in the kernel, as everything is where A = 0
    return float(image.norm())


def sampled_slope(node: Node) -> float | None:
    """Steepest slope of an elementwise node, sampled on both sides of zero at several scales.

    None if it is not elementwise, or if the slope still grows at the smallest or largest scale.
    """
    if len(node.inputs) != 1 or node.inputs[0].shape != node.output.shape:
        return None
    generator = torch.Generator().manual_seed(0)
    shape = (max(4, _N_SAMPLES // node.output.numel()), *node.output.shape[1:])
    steepest = []
    for reach in _REACHES:
        x = (reach * (2 * torch.rand(shape, dtype=torch.float64, generator=generator) - 1)).requires_grad_()
        signs = _signs(shape, generator)
        value = node.call(x)
        (column_sums,) = torch.autograd.grad(value.sum(), x, retain_graph=True)
        (signed,) = torch.autograd.grad((signs * value).sum(), x)
        # of a diagonal Jacobian D: 1' D and s' D differ by the signs s alone
        defect = (signs * signed - column_sums).abs().max()
        if not defect <= _RTOL * column_sums.abs().max():
            return None
        steepest.append(float(column_sums.abs().max()))
    unbounded = max(steepest[0], steepest[-1]) > 1.001 * max(steepest[1:-1])
    return None if unbounded else max(steepest)


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, dtype=like.dtype, generator=generator)


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return 2.0 * torch.randint(0, 2, shape, generator=generator).double() - 1.0
