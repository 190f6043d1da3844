"""Random orthogonal weights for any architecture: the operator of no layer has a norm above 1.

A convolution is a block convolution orthogonal (Xiao et al. 2018, arXiv 1806.05393, algorithm 1; Li et al. 2019, arXiv
1911.00937): along each axis an orthogonal matrix, then k - 1 times the two-tap filter [P, I - P] with a projector P.
Each factor is orthogonal on the torus, hence so is their product. Fewer channels in or out, a stride and a map without
wrap-around each leave a part of it, whose norm is at most 1.
"""

from __future__ import annotations

import torch
from torch import nn


def orthogonalise(module: nn.Module, generator: torch.Generator) -> None:
    """Give every convolution and dense layer orthogonal weights, and no bias.

    Rounded to float32 and down by 1e-6, so that the constant of the network is at most 1.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            parts = [_kernel(part.shape, generator) for part in layer.weight.chunk(layer.groups)]
            layer.weight.copy_(torch.cat(parts) * (1 - _MARGIN))
        elif isinstance(layer, nn.Linear):
            n_out, n_in = layer.weight.shape
            layer.weight.copy_(_orthogonal(max(n_out, n_in), generator)[:n_out, :n_in] * (1 - _MARGIN))
        if isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)


_MARGIN = 1e-6


def _kernel(shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """A kernel of shape (c_out, c_in, k_h, k_w), float64."""
    c_out, c_in, k_h, k_w = shape
    n = max(c_out, c_in)
    kernel = _orthogonal(n, generator).reshape(n, n, 1, 1)
    for _ in range(k_h - 1):
        kernel = _compose(_two_taps(n, generator).unsqueeze(3), kernel)
    for _ in range(k_w - 1):
        kernel = _compose(_two_taps(n, generator).unsqueeze(2), kernel)
    return kernel[:c_out, :c_in]


def _compose(second: torch.Tensor, first: torch.Tensor) -> torch.Tensor:
    """The kernel of one convolution after another."""
    rows, columns = second.shape[2:]
    padded = nn.functional.pad(first.transpose(0, 1), (columns - 1, columns - 1, rows - 1, rows - 1))
    return nn.functional.conv2d(padded, second.flip(2, 3)).transpose(0, 1)


def _two_taps(n: int, generator: torch.Generator) -> torch.Tensor:
    """[P, I - P] with a projector P of rank n // 2, (n, n, 2)."""
    basis = _orthogonal(n, generator)[:, : n // 2]
    projector = basis @ basis.T
    return torch.stack([projector, torch.eye(n, dtype=torch.float64) - projector], dim=2)


def _orthogonal(n: int, generator: torch.Generator) -> torch.Tensor:
    q, r = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=generator))
    return q * r.diagonal().sign()
