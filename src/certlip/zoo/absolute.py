"""The absolute value of each input, written with two ReLUs: the constant is 1, the product of norms 2."""

from __future__ import annotations

import torch
from torch import nn


def make(*, n_inputs: int = 3) -> nn.Module:
    """x -> relu(x) + relu(-x)."""
    n_hidden = 2 * n_inputs
    network = nn.Sequential(
        nn.Linear(n_inputs, n_hidden, bias=False), nn.ReLU(), nn.Linear(n_hidden, n_inputs, bias=False)
    )
    identity = torch.eye(n_inputs)
    network[0].weight.data = torch.cat([identity, -identity])
    network[2].weight.data = torch.cat([identity, identity], dim=1)
    return network


def input_shape(*, n_inputs: int = 3) -> tuple[int]:
    return (n_inputs,)


def known_constant(**options: object) -> float:
    """The exact Lipschitz constant."""
    return 1.0
