"""Run as a program: the answers for modules that do not pickle, without limits and with them, a line each."""

import sys
import threading

import torch
from torch import nn

import certlip


class Locked(nn.Module):
    """A residual block whose forward holds a lock and calls a lambda."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)
        self.lock = threading.Lock()
        self.scaling = lambda x: 2 * x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.lock:
            return x + self.scaling(self.layer(x))


class LockedChain(Locked):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.lock:
            return torch.relu(self.layer(x))


class LockedNorm(Locked):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with self.lock:
            return torch.nn.functional.layer_norm(self.layer(x), (3,))


class WithHandle(Locked):
    """A chain, and an attribute that no copy can have."""

    def __init__(self) -> None:
        super().__init__()
        self.handle = open(__file__)  # noqa: SIM115

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x)


def parametrized() -> nn.Module:
    return nn.utils.parametrizations.spectral_norm(nn.Linear(3, 3))


def scripted() -> nn.Module:
    return torch.jit.script(nn.Linear(3, 3))  # type: ignore[no-any-return]


def main() -> None:
    for make in (Locked, LockedChain, LockedNorm, WithHandle, parametrized, scripted):
        torch.manual_seed(0)
        module = nn.Sequential(make())
        for method, options in (("product", {}), ("autolip", {}), ("autolip", {"certified": True})):
            for limits in ({}, {"max_seconds": 120.0}):
                record = certlip.bound(module, (3,), method, **limits, **options)  # type: ignore[arg-type]
                print(make.__name__, method, options, record.value, record.status, record.reason, sep="|")


if __name__ == "__main__":
    sys.exit(main())
