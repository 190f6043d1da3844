"""Threads of dense linear algebra by size: on small matrices a second one only waits for the first."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from certlip.base.limits import thread_pools
from certlip.proof.lmi import Lmi

PARALLEL = 1000
"""Neurons of the widest hidden layer from which on several threads are not slower than one: measured, Cholesky
factorisations of order 500 take 1.5 times as long on two threads, of 1,000 as long, of 2,000 two thirds."""


@contextmanager
def by_size(*lmis: Lmi) -> Iterator[None]:
    """While the block runs, BLAS has one thread unless a layer of these is wide enough for what it has otherwise.

    The threads of torch stay: those wait without taking time, and small products do not use them.
    """
    widest = max(max(lmi.sizes[1:], default=lmi.sizes[0]) for lmi in lmis)
    if widest >= PARALLEL:
        yield
        return
    with thread_pools(len(sys.modules)).limit(limits=1, user_api="blas"):
        yield
