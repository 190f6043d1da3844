"""One clock, one memory gauge, one place where threads are fixed: a call in a child process that can be stopped."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from joblib.externals.loky import ProcessPoolExecutor
from joblib.externals.loky.process_executor import TerminatedWorkerError

from certlip.errors import LimitExceeded, NoBound

GRACE_SECONDS = 10.0
"""How long a call that keeps its own time limit may overrun before it is killed (start-up and certification)."""


@dataclass(frozen=True)
class Limits:
    """What one call may take; None is no limit. max_memory_mb: private memory beyond what the process starts with."""

    threads: int = 1
    max_seconds: float | None = None
    max_memory_mb: float | None = None


@dataclass(frozen=True)
class Measured:
    """value: what the call returned; seconds: its wall time, imports excluded; peak_mb: of the process it ran in, with
    what that took over when it was forked."""

    value: Any
    seconds: float
    peak_mb: float


def call(function: Callable[..., Any], *arguments: Any, limit: Limits) -> Measured:
    """Run ``function(*arguments)`` with fixed threads; under a limit of time or memory in a process of its own.

    Exceptions of the function are raised here.
    Raises LimitExceeded with status ``time_limit`` or ``memory_limit`` when a limit ended the process.
    """
    if limit.max_seconds is None and limit.max_memory_mb is None:
        return _measure(function, arguments, limit)
    idle = _idle.setdefault(limit, [])
    executor = idle.pop() if idle else _start(limit)
    try:
        future = executor.submit(_measure, function, arguments, limit)
        measured = future.result(None if limit.max_seconds is None else limit.max_seconds + GRACE_SECONDS)
        idle.append(executor)
        return measured
    except NoBound:
        idle.append(executor)
        raise
    except Exception as error:
        overdue = isinstance(error, FutureTimeoutError) and not future.done()
        executor.shutdown(wait=True, kill_workers=True)
        if ended := _ended_by_limit(error, limit, overdue):
            raise ended from None
        raise


_idle: dict[Limits, list[ProcessPoolExecutor]] = {}
"""Processes that wait for the next call under the same limits: to start one takes longer than a small program."""


def end_idle() -> None:
    """End the processes that wait: what they have loaded would count as the memory of the next call."""
    for waiting in _idle.values():
        while waiting:
            waiting.pop().shutdown(wait=True, kill_workers=True)


def _start(limit: Limits) -> ProcessPoolExecutor:
    """A process for one call at a time: forked, which spares the imports, unless a thread of ours could hold a lock."""
    alone = len(os.listdir("/proc/self/task")) == 1
    context = multiprocessing.get_context("fork") if alone else None
    environment = {key: str(limit.threads) for key in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    return ProcessPoolExecutor(1, context=context, initializer=_set, initargs=(environment,), env=environment)


def _set(environment: dict[str, str]) -> None:
    os.environ.update(environment)


def _ended_by_limit(error: Exception, limit: Limits, overdue: bool) -> LimitExceeded | None:
    """What to say where a limit ended the call, None where it failed on its own."""
    if overdue:
        return LimitExceeded("time_limit", f"no result within {limit.max_seconds:g} s")
    if isinstance(error, TerminatedWorkerError):
        signals = ", ".join(re.findall(r"SIG[A-Z]+", str(error))) or "no signal"
        reason = f"the process crashed or was killed ({signals}), most likely for want of memory"
        return LimitExceeded("memory_limit", reason)
    if not is_out_of_memory(error):
        return None
    there_is = "there is" if limit.max_memory_mb is None else f"the {limit.max_memory_mb:.0f} MB allowed"
    return LimitExceeded("memory_limit", f"more memory than {there_is} was needed")


def peak_mb() -> float:
    """Peak resident memory of this process so far, in MB; `ru_maxrss` would start at the peak of its parent."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def is_out_of_memory(error: Exception) -> bool:
    """Whether it says so: neither torch nor the loader of shared libraries has a class of its own for it."""
    signs = ("can't allocate memory", "annot allocate memory", "failed to map segment", "cannot map zero-fill pages")
    # an import that runs out of memory may end in CPython's "error return without exception set", a SystemError
    return isinstance(error, MemoryError | SystemError) or any(
        sign in str(error) for sign in (*signs, "can't start new thread")
    )


def _measure(function: Callable[..., Any], arguments: tuple, limit: Limits) -> Measured:
    from threadpoolctl import threadpool_limits

    if limit.max_memory_mb is not None:
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (_held() + int(limit.max_memory_mb * 2**20), hard))
        _forget_peak()
    with threadpool_limits(limit.threads):
        begin = time.perf_counter()
        value = function(*arguments)
        return Measured(value, time.perf_counter() - begin, peak_mb())


@cache
def _held() -> int:
    """Private memory of this process, in bytes, when it began its first call."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")


def _forget_peak() -> None:
    """Let `peak_mb` begin again; where the kernel does not allow it the peak is that of all calls so far."""
    with suppress(OSError), open("/proc/self/clear_refs", "w") as references:
        references.write("5")
