"""Residual blocks of dense layers: FC-R18 of GLipSDP (Pauli et al. 2024, arXiv 2405.01125) by default."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Block(nn.Module):
    """relu(W2 relu(W1 x) + x)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """A batch of vectors."""
        return torch.relu(self.second(torch.relu(self.first(x))) + x)


def make(*, n_inputs: int = 784, width: int = 64, n_blocks: int = 8, n_outputs: int = 10) -> nn.Module:
    """n_inputs -> width -> ... -> width -> n_outputs; images are flattened first."""
    blocks = [Block(width) for _ in range(n_blocks)]
    return nn.Sequential(nn.Flatten(), nn.Linear(n_inputs, width), nn.ReLU(), *blocks, nn.Linear(width, n_outputs))


def input_shape(*, n_inputs: int = 784, **options: object) -> tuple[int]:
    return (n_inputs,)
