"""What a look at the gap costs, predicted from its operations until one was taken: none is begun that ends too late."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import numpy as np
import scipy

from certlip.base.deadline import Deadline
from certlip.base.errors import LimitExceeded
from certlip.proof.elimination import cheapest
from certlip.proof.lmi import Lmi

PROBE = 512
"""Order of the matrix product by which the speed of this machine under its present load is measured."""
PROBES = 5
"""Products of which the median counts."""
LARGE = 1e9
"""Multiplications of a look from which on they take most of its time; smaller ones are not predicted by the probe."""
SMALL_RATE = 1e9
"""Multiplications a second of small looks."""
QUICK_SECONDS = 0.1
"""A look that takes less is made even where time is up: that keeps a limit as well as stopping before it would."""
RESERVE = 3
"""Looks for which time is kept: the last one, one more where that fails, and the certificate."""
CAUTION = 1.3
"""A look may take so much longer than the last one, or than predicted."""


class Looks:
    """seconds: what the next factorisation of P(rho, T), or of the P of several inequalities, takes, generously."""

    def __init__(self, *lmis: Lmi) -> None:
        multiplications = sum(_multiplications(lmi) for lmi in lmis)
        self._rate = SMALL_RATE if multiplications < LARGE else _rate()
        self.seconds = self.predicted(multiplications)

    def predicted(self, multiplications: float) -> float:
        """Seconds that so many take, generously."""
        return CAUTION * multiplications / self._rate

    def check(self, deadline: Deadline) -> None:
        """Raise LimitExceeded where the time would not suffice for any proof."""
        needed = RESERVE * self.seconds
        if not (self.are_quick or deadline.allows(needed)):
            reason = f"a proof may take {needed:.2g} s, and {max(deadline.left, 0.0):.2g} s were left"
            raise LimitExceeded("time_limit", reason)

    @property
    def are_quick(self) -> bool:
        """Whether the time that they take is no matter."""
        return self.seconds < QUICK_SECONDS

    @contextmanager
    def timed(self) -> Iterator[None]:
        """A block that is one look."""
        begin = time.monotonic()
        yield
        self.seconds = CAUTION * (time.monotonic() - begin)


class Ascent(Protocol):
    """What goes up sweep by sweep."""

    def sweep(self) -> None: ...


def sweep(ascent: Ascent, n_sweeps: int, deadline: Deadline, reserve: float) -> bool:
    """Sweep so often, as long as more than `reserve` seconds are left; whether they were not."""
    for _ in range(n_sweeps):
        ascent.sweep()
        if not deadline.allows(reserve):
            return True
    return False


def _multiplications(lmi: Lmi) -> float:
    return cheapest([*lmi.sizes, len(lmi.weights[-1])], lmi.are_vectors)[0]


def _rate() -> float:
    """Multiplications a second of a matrix product, now and with the threads of now; the first one of a process is
    several times slower."""
    matrix = np.ones((PROBE, PROBE), order="F")
    seconds = []
    for _ in range(PROBES):
        begin = time.monotonic()
        scipy.linalg.blas.dgemm(1.0, matrix, matrix)  # of the library that factorises
        seconds.append(time.monotonic() - begin)
    return PROBE**3 / sorted(seconds)[PROBES // 2]
