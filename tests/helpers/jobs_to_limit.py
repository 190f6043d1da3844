"""Functions that run in a child process: they need a module of their own to be imported from."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np

from certlip.base import limits
from certlip.base.errors import UnsupportedLayer
from certlip.base.limits import Limits


def add(a: int, b: int) -> int:
    return a + b


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def fill(n_megabytes: int) -> float:
    return float(np.ones(n_megabytes * 2**17).sum())


def die(number: int) -> None:
    if number != signal.SIGKILL:  # who was started by nohup ignores some
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def fail(error: Exception) -> None:
    raise error


class Awkward(Exception):
    """What comes out of its pickle lacks an argument, as with some exceptions of SciPy."""

    def __init__(self, message: str, cause: str) -> None:
        super().__init__(f"{message}: {cause}")


def fail_awkwardly() -> None:
    raise Awkward("no convergence", "too few steps")


def unsupported() -> None:
    raise UnsupportedLayer("attn: no bound for MultiheadAttention")


def run_out_of_memory_like_torch() -> None:
    raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")


def threads() -> tuple[set[int], str | None, int]:
    from threadpoolctl import threadpool_info

    return {pool["num_threads"] for pool in threadpool_info()}, os.environ.get("OMP_NUM_THREADS"), os.getpid()


def fill_and_tell(n_megabytes: int) -> int:
    fill(n_megabytes)
    return os.getpid()


def named(name: str, *arguments: Any) -> Any:
    return globals()[name](*arguments)


def pid_of_a_call(limit: Limits) -> int:
    return limits.call(os.getpid, limit=limit).value


def report_and(end: str, *arguments: Any) -> None:
    """Report twice, and then do something that ends in a limit or a kill."""
    limits.report(lambda: "first")
    time.sleep(1.2 * limits.REPORT_SECONDS)
    limits.report(lambda: "second")
    limits.report(lambda: "too soon after")
    named(end, *arguments)


def finish(*arguments: Any) -> tuple[Any, ...]:
    return arguments


def scipys_threads() -> list[int]:
    """Of the BLAS of SciPy, if it is loaded."""
    from threadpoolctl import threadpool_info

    return [pool["num_threads"] for pool in threadpool_info() if "scipy.libs" in pool["filepath"]]
