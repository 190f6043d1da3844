"""Two dense layers with nothing between: the constant is the norm of their product, the product of norms is far above.

(H/2) diag(second) and diag(first) (H/2) with H/2 orthogonal: the constant is max |first_k second_k|.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from certlip.zoo.orthogonal import hadamard

FIRST, SECOND = (3.0, 0.5, 2.0, 1.0), (0.5, 4.0, 1.0, -1.0)


def make(*, first: Sequence[float] = FIRST, second: Sequence[float] = SECOND) -> nn.Module:
    """4 -> 4 -> 4; first, second: four numbers each."""
    network = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    network[0].weight.data = torch.tensor(first)[:, None] * hadamard(4) / 2
    network[1].weight.data = hadamard(4) / 2 * torch.tensor(second)
    return network


def input_shape(**options: object) -> tuple[int]:
    return (4,)


def known_constant(*, first: Sequence[float] = FIRST, second: Sequence[float] = SECOND) -> float:
    """The exact Lipschitz constant, for numbers that float32 holds."""
    return max(abs(a * b) for a, b in zip(first, second, strict=True))
