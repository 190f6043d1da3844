"""A network that no method can bound: the square of its features has no Lipschitz constant."""

import torch
from torch import nn


class Square(nn.Module):
    """x -> x^2, elementwise."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * x


def make() -> nn.Module:
    """1x8x8 -> 4 features, squared, -> 2."""
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 4), Square(), nn.Linear(4, 2))
