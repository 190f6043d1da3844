"""Norms of circular convolutions taken for zero-padded ones, on the same image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from certlip.claims import Finding, Proof
from certlip.network import Array, Conv, Network
from certlip.run import bound

SOURCE = "Sedghi et al. 2019 (arXiv 1805.10408), exact for circular padding, where it is used for zero padding"

KERNEL = np.array([-1.0, 1.0, -1.0])
N = 3


def check(folder: Path) -> list[Finding]:
    """A kernel of three taps on three pixels."""
    padded = Conv("conv", KERNEL.reshape(1, 1, 1, 3), np.zeros(1), padding=(0, 0, 1, 1))
    network = Network((padded,), (1, 1, N))
    return [
        Finding(
            f"the kernel {_written(KERNEL)} on {N} pixels, zero-padded by one on each side",
            float(np.abs(np.fft.fft(KERNEL, N)).max()),
            float(bound(network, method="lower").value or 0.0),
            Proof.LOWER,
            "Claimed: largest Fourier coefficient on as many pixels. Proved: what the padded layer makes of one input",
            "The norm of the circular convolution on n + p pixels is a bound: p the padding, or the kernel's length "
            "minus one where that is less",
        )
    ]


def _written(kernel: Array) -> str:
    return "[" + ", ".join(f"{x:g}" for x in kernel) + "]"
