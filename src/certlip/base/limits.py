"""One clock, one memory gauge, one place where threads are fixed: a call in a child process that can be stopped."""

from __future__ import annotations

import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from certlip.base.errors import CertlipError, LimitExceeded, NoBound, Stopped
from certlip.base.worker import Call, Died, Overdue, Worker, hand_over, is_waited_for

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

ENDING_SECONDS = 0.5
"""How long after its limit a call is killed: time to hand on what it found. To start a process comes on top."""
REPORT_SECONDS = 0.5
"""At least so long between two reports of a call."""

Finish = Callable[..., Any]
"""Makes the best of a call that was ended: called with its arguments, what it reported, if it did, and why."""


@dataclass(frozen=True)
class Limits:
    """What one call may take; None is no limit. max_memory_mb: private memory beyond what the process starts with."""

    threads: int = 1
    max_seconds: float | None = None
    max_memory_mb: float | None = None

    @property
    def at_any_time(self) -> Limits:
        """Without the one of time."""
        return replace(self, max_seconds=None)


@dataclass(frozen=True)
class Measured:
    """value: what the call returned; seconds: its wall time, imports excluded; peak_mb: of the process it ran in, with
    what that took over when it was forked."""

    value: Any
    seconds: float
    peak_mb: float


def call(function: Callable[..., Any], *arguments: Any, limit: Limits, finish: Finish | None = None) -> Measured:
    """Run ``function(*arguments)`` with fixed threads; under a limit of time or memory in a process of its own.

    finish: see `begin`. Exceptions of the function are raised here.
    Raises LimitExceeded with status ``time_limit`` or ``memory_limit``, and what the function had reported, when a
    limit ended the process, Stopped when somebody did.
    """
    (outcome,) = begin(function, [arguments], limit, finish)
    if isinstance(outcome, NoBound):
        raise outcome
    return outcome


def begin(
    function: Callable[..., Any], batch: Sequence[tuple], limit: Limits, finish: Finish | None = None
) -> Iterator[Measured | NoBound]:
    """Have several calls done in order in one process, each within limits of its own, while this one does other work.

    Gives for each what `call` returns, or the NoBound that it raises; raises what else it raises. A call that ends the
    process ends no other: those after it are done in another process. finish: gives the value of a call that a limit or
    a kill ended before its time was up; it is called under the same limits in the time that is left.
    """
    if limit.max_seconds is None and limit.max_memory_mb is None:
        return (_here(function, arguments, limit) for arguments in batch)
    outcomes = _receive([(_measure, (function, arguments, limit)) for arguments in batch], limit)
    return outcomes if finish is None else _finished(finish, batch, outcomes, limit)


def report(make: Callable[[], Any]) -> None:
    """Say what the call that this process does has so far, in case that it does not come to its end.

    make: gives it; not called where nobody waits for it, nor soon after the last report: a tenth of the time at most
    goes to reports.
    """
    global _next_report
    begin = time.monotonic()
    if is_waited_for() and begin >= _next_report:
        hand_over(make())
        end = time.monotonic()
        _next_report = end + max(REPORT_SECONDS, 9 * (end - begin))


_next_report = 0.0


def _here(function: Callable[..., Any], arguments: tuple, limit: Limits) -> Measured | NoBound:
    try:
        return _measure(function, arguments, limit)
    except NoBound as refusal:
        return refusal


def _send(calls: Sequence[Call], limit: Limits) -> Worker:
    try:
        worker = _idle.setdefault(limit.at_any_time, []).pop()
    except IndexError:
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        # threads that spin while they wait take the cores of others, who may be what they wait for
        worker = Worker({**dict.fromkeys(names, str(limit.threads)), "OMP_WAIT_POLICY": "PASSIVE"})
    worker.send(calls)
    return worker


def _receive(calls: Sequence[Call], limit: Limits) -> Iterator[Measured | NoBound]:
    """The outcomes of calls that are under way when this returns."""
    return _outcomes(calls, _send(calls, limit), limit)


def _outcomes(calls: Sequence[Call], worker: Worker, limit: Limits) -> Iterator[Measured | NoBound]:
    for left in reversed(range(len(calls))):
        outcome = _outcome(worker, limit)
        if left and not worker.alive:
            worker = _send(calls[-left:], limit)
        elif worker.alive and not left:
            _idle.setdefault(limit.at_any_time, []).append(worker)
        try:
            yield outcome
        except GeneratorExit:  # nobody hears the other answers
            if left:
                worker.end()
            raise


def _finished(
    finish: Finish, batch: Sequence[tuple], outcomes: Iterator[Measured | NoBound], limit: Limits
) -> Iterator[Measured | NoBound]:
    for arguments, outcome in zip(batch, outcomes, strict=True):
        yield _finish(finish, arguments, outcome, limit) if isinstance(outcome, LimitExceeded) else outcome


def _finish(finish: Finish, arguments: tuple, ended: LimitExceeded, limit: Limits) -> Measured | NoBound:
    left = None if limit.max_seconds is None else limit.max_seconds - ended.seconds
    if left is not None and left <= 0:
        return ended
    try:
        finished = call(finish, *arguments, ended.reported, str(ended), limit=replace(limit, max_seconds=left))
    except NoBound:
        return ended
    return replace(finished, seconds=ended.seconds + finished.seconds)


def _outcome(worker: Worker, limit: Limits) -> Measured | NoBound:
    """Of the next call; the worker is alive after a result or a refusal of the function itself."""
    try:
        seconds = None if limit.max_seconds is None else limit.max_seconds + ENDING_SECONDS
        measured: Measured = worker.receive(seconds)
        return measured
    except NoBound as refusal:
        return refusal
    except Overdue:
        ended = LimitExceeded("time_limit", f"no result within {limit.max_seconds:g} s")
    except Died as death:
        if worker.begun is None and (death.exitcode or 0) >= 0:
            raise CertlipError(
                f"a process of its own could not start (exit code {death.exitcode}); what it printed says why"
            ) from None
        ended = _death(death.exitcode)
    except BaseException as error:
        worker.end()
        if not (isinstance(error, Exception) and is_out_of_memory(error)):
            raise
        there_is = "there is" if limit.max_memory_mb is None else f"the {limit.max_memory_mb:.0f} MB allowed"
        ended = LimitExceeded("memory_limit", f"more memory than {there_is} was needed")
    ended.reported = worker.reported
    ended.seconds = 0.0 if worker.begun is None else time.monotonic() - worker.begun
    return ended


_idle: dict[Limits, list[Worker]] = {}
"""Processes that wait for the next call under the same limits: to start one takes longer than a small program."""


def end_idle() -> None:
    """End the processes that wait: what they have loaded would count as the memory of the next call."""
    for waiting in _idle.values():
        while waiting:
            waiting.pop().end()


os.register_at_fork(after_in_child=_idle.clear)  # their pipes lead to the parent's calls


def _death(exitcode: int | None) -> LimitExceeded:
    """What to say of a process that ended without an answer; raises Stopped where somebody ended it."""
    if exitcode is None or exitcode >= 0:
        how = f"ended with exit code {exitcode}"
    elif -exitcode in _FROM_OUTSIDE:
        raise Stopped(f"a process was ended by {signal.Signals(-exitcode).name}; run again")
    else:
        how = f"crashed or was killed ({signal.Signals(-exitcode).name})"
    remedy = "give it more memory or fewer neighbours, and have it tried again by: certlip retry --limit-rows"
    return LimitExceeded("memory_limit", f"the process {how}, most likely for want of memory; {remedy}")


_FROM_OUTSIDE = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGXCPU)
"""Sent by a person or a scheduler, never for want of memory."""


def peak_mb() -> float:
    """Peak resident memory of this process so far, in MB; `ru_maxrss` would start at the peak of its parent."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def physical_mb() -> float:
    """Memory of this machine, in MB."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20


def memory_left_mb() -> float:
    """What this process may still take by its own limit, infinite without one."""
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    return math.inf if soft == resource.RLIM_INFINITY else (soft - _private()) / 2**20


def is_out_of_memory(error: Exception) -> bool:
    """Whether it says so: neither torch nor the loader of shared libraries has a class of its own for it."""
    if isinstance(error, SystemError):
        return any(sentence in str(error) for sentence in _WITHOUT_EXCEPTION)
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in _SIGNS)


_WITHOUT_EXCEPTION = ("without exception set", "without setting an exception", "without raising an exception")
"""What CPython says where C code failed and did not say why: imports do that when an allocation fails."""
_SIGNS = (
    *("can't allocate memory", "annot allocate memory", "failed to map segment", "cannot map zero-fill pages"),
    *("can't start new thread", "std::bad_alloc"),
)


def load_scipy() -> None:
    """Import what certlip takes of SciPy, so that a clock may start then and the threads of its libraries be set.

    SciPy imports its parts when they are first used, which spares the Snakefile them.
    """
    import scipy.linalg.interpolative
    import scipy.sparse.linalg
    import scipy.special  # noqa: F401


def _measure(function: Callable[..., Any], arguments: tuple, limit: Limits) -> Measured:
    global _next_report
    _next_report = 0.0
    load_scipy()
    if is_waited_for():
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        allowed = hard if limit.max_memory_mb is None else _held() + int(limit.max_memory_mb * 2**20)
        resource.setrlimit(resource.RLIMIT_DATA, (allowed, hard))
        _forget_peak()
    with thread_pools(len(sys.modules)).limit(limits=limit.threads):
        begin = time.perf_counter()
        value = function(*arguments)
        return Measured(value, time.perf_counter() - begin, peak_mb())


@lru_cache(1)
def thread_pools(n_modules: int) -> ThreadpoolController:
    """Those of the libraries that so many imports have loaded: to look for them takes longer than to set them."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@cache
def _held() -> int:
    """Private memory of this process, in bytes, when it began its first call."""
    return _private()


def _private() -> int:
    """Private memory of this process, in bytes."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")


def _forget_peak() -> None:
    """Let `peak_mb` begin again; where the kernel does not allow it the peak is that of all calls so far."""
    with suppress(OSError), open("/proc/self/clear_refs", "w") as references:
        references.write("5")
