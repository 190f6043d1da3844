"""A process that does calls for this one, in order, and can be ended in the midst of one."""

from __future__ import annotations

import copy
import multiprocessing.util
import os
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from joblib.externals.loky.backend import get_context
from joblib.externals.loky.backend.reduction import dumps
from joblib.externals.loky.backend.utils import kill_process_tree

Call = tuple[Callable[..., Any], tuple]
"""A function and its arguments."""

SECONDS_TO_EXIT = 5.0


class Overdue(Exception):
    """No answer in time; the process was ended."""


class Died(Exception):
    """The process ended before it answered; exitcode: minus the number of the signal that ended it, if one did."""

    def __init__(self, exitcode: int | None) -> None:
        super().__init__(exitcode)
        self.exitcode = exitcode


class Worker:
    """The process: forked, which spares the imports, unless a thread of ours could hold a lock.

    environment: variables that it sets for itself. It ends with this process, or when `end` is called.
    """

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

        Raises Overdue when it takes longer than this, Died: in both cases the process is gone.
        """
        try:
            if not self._pipe.poll(seconds):
                raise Overdue
            returned, value = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(SECONDS_TO_EXIT)
            exitcode = self._process.exitcode
            self.end()
            raise Died(exitcode) from None
        except BaseException:
            self.end()
            raise
        if returned:
            return value
        raise value

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
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            for function, arguments in pipe.recv():
                pipe.send_bytes(_answer(function, arguments))


def _answer(function: Callable[..., Any], arguments: tuple) -> Any:
    """Whether it returned, and what it returned or raised, pickled."""
    try:
        return dumps((True, function(*arguments)))
    except BaseException as error:
        error.add_note(f"in a process of its own:\n{traceback.format_exc()}")
        error.__traceback__ = None  # it holds all that the call held
        raised = error
    try:
        copy.copy(raised)  # as the reader of the pickle makes it: some exceptions cannot be made again
        return dumps((False, raised))
    except Exception:
        return dumps((False, RuntimeError(f"{type(raised).__name__}: {raised}")))
