"""A process that does calls for this one in order, reports what it has so far, and can be ended in the midst of one."""

from __future__ import annotations

import copy
import multiprocessing.util
import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

from joblib.externals.loky.backend import get_context
from joblib.externals.loky.backend.reduction import dumps
from joblib.externals.loky.backend.utils import kill_process_tree

from certlip.base import progress
from certlip.base.deadline import Deadline

Call = tuple[Callable[..., Any], tuple]
"""A function and its arguments."""

SECONDS_TO_EXIT = 5.0
SECONDS_TO_START = 120.0
"""Time for a process to begin its first call, on top of that call's own: it may have to start Python."""

BEGUN, REPORTED, RETURNED, RAISED = range(4)
"""What a message of the process says: when a call began, what it has so far, and how it ended."""


class Overdue(Exception):
    """No answer in time; the process was ended."""


class Died(Exception):
    """The process ended before it answered; exitcode: minus the number of the signal that ended it, if one did."""

    def __init__(self, exitcode: int | None) -> None:
        super().__init__(exitcode)
        self.exitcode = exitcode


def hand_over(value: Any) -> None:
    """Hand what a call has so far to the process that waits for it; nobody waits outside of a `Worker`."""
    if _waiting:
        _waiting[0].send_bytes(dumps((REPORTED, value)))


def is_waited_for() -> bool:
    """Whether somebody hears what is reported."""
    return bool(_waiting)


_waiting: list[Connection] = []
"""The pipe to the process that this one works for, if it does."""


class Worker:
    """The process: forked, which spares the imports, unless a thread of ours could hold a lock.

    environment: variables that it sets for itself; begun: on `time.monotonic`, when the call that is received began,
    None before; reported: what that call reported last. It ends with this process, or when `end` is called.
    """

    begun: float | None
    reported: Any

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._pipe, others_end = multiprocessing.Pipe()
        if len(os.listdir("/proc/self/task")) == 1:
            fork = multiprocessing.get_context("fork")
            self._process = fork.Process(target=_serve, args=(others_end, environment, self._pipe))
        else:
            loky = get_context("loky")
            self._process = loky.Process(target=_serve, args=(others_end, environment), env=dict(environment))
        self._process.start()
        others_end.close()
        # also at the exit of this process, before it would wait for that one
        self._end = multiprocessing.util.Finalize(self, _kill, args=(self._process, self._pipe), exitpriority=10)

    def send(self, calls: Sequence[Call]) -> None:
        """Have calls done; each is to be received before the next are sent."""
        with suppress(BrokenPipeError, ConnectionResetError):  # who receives hears of it
            self._pipe.send_bytes(dumps(list(calls)))

    def receive(self, seconds: float | None = None) -> Any:
        """What the next call returns; what it raises is raised here.

        seconds: from when it begins. Raises Overdue when it takes longer than this, Died: in both cases the process is
        gone.
        """
        self.begun, self.reported = None, None
        deadline = Deadline.after(None if seconds is None else SECONDS_TO_START + seconds)
        try:
            while True:
                if not self._answers(deadline):
                    raise Overdue
                message, value = self._pipe.recv()
                if message == BEGUN:
                    self.begun = value
                    deadline = deadline if seconds is None else Deadline(value + seconds)
                elif message == REPORTED:
                    self.reported = value
                    progress.hear(value)
                else:
                    break
        except (EOFError, OSError):
            self._process.join(SECONDS_TO_EXIT)
            exitcode = self._process.exitcode
            self.end()
            raise Died(exitcode) from None
        except BaseException:
            self.end()
            raise
        if message == RETURNED:
            return value
        raise value

    def _answers(self, deadline: Deadline) -> bool:
        """Whether there is a message before the deadline; meanwhile who watches sees that time goes by."""
        while progress.is_watched() and deadline.allows(progress.SECONDS_BETWEEN_LOOKS):
            if self._pipe.poll(progress.SECONDS_BETWEEN_LOOKS):
                return True
            progress.refresh()
        return self._pipe.poll(deadline.max_seconds)

    @property
    def alive(self) -> bool:
        """Whether it was not ended."""
        return self._end.still_active()

    def end(self) -> None:
        """Kill the process, with all that it started."""
        self._end()


def _kill(process: Any, pipe: Connection) -> None:
    kill_process_tree(process)
    pipe.close()


def _serve(pipe: Connection, environment: Mapping[str, str], parents_end: Connection | None = None) -> None:
    if parents_end is not None:
        parents_end.close()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who interrupts the parent is answered by the parent
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _waiting[:] = [pipe]
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            message = pipe.recv_bytes()
            try:
                calls = ForkingPickler.loads(message)
            except Exception as error:  # a module that can only be imported there, or no memory
                pipe.send_bytes(_raised(error))
                continue
            for function, arguments in calls:
                pipe.send_bytes(dumps((BEGUN, time.monotonic())))
                pipe.send_bytes(_answer(function, arguments))


def _answer(function: Callable[..., Any], arguments: tuple) -> Any:
    """How a call ended and what it returned or raised, pickled."""
    try:
        return dumps((RETURNED, function(*arguments)))
    except BaseException as error:
        return _raised(error)


def _raised(error: BaseException) -> Any:
    error.add_note(f"in a process of its own:\n{traceback.format_exc()}")
    error.__traceback__ = None  # it holds all that the call held
    try:
        copy.copy(error)  # as the reader of the pickle makes it: some exceptions cannot be made again
        return dumps((RAISED, error))
    except Exception:
        return dumps((RAISED, RuntimeError(f"{type(error).__name__}: {error}")))
