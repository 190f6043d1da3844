"""What a wait is for: one line that moves on a terminal, now and then a line in a log, or nothing.

A stage says what is waited for, and stages may lie in each other. Whoever waits calls `refresh`; nothing here starts a
thread, since a process with threads cannot be forked.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import RLock
from typing import Any, Literal

SECONDS_BETWEEN_LINES = 10.0
PATIENCE_SECONDS = 1.0
"""A wait that is shorter shows nothing on a terminal."""
SECONDS_BETWEEN_LOOKS = 0.2
"""Who waits calls `refresh` so often."""

Voice = Literal["library", "command", "quiet"]
"""``library``: in a log only what takes long; ``command``: there a line a stage; ``quiet``: nothing anywhere."""


@dataclass
class _Stage:
    """words: what is waited for; total: parts of it, seconds: its time, None where they are not known."""

    words: str
    total: int | None
    seconds: float | None
    begin: float = field(default_factory=time.monotonic)
    done: int = 0

    def __str__(self) -> str:
        """What it is, and how much of it is done."""
        took = time.monotonic() - self.begin
        if self.total is not None:
            return f"{self.words} {self.done}/{self.total}"
        if self.seconds is not None:
            return f"{self.words} {took:.0f} of {self.seconds:.0f} s"
        return f"{self.words} {took:.0f} s"

    @property
    def left(self) -> float | None:
        """Seconds that the rest of its parts will take, None where nothing says so."""
        if self.total is None or not self.done:
            return None
        return (time.monotonic() - self.begin) / self.done * (self.total - self.done)


class _Shown:
    """What is shown: stages, outer ones first; the smallest certified value told since the first of them began."""

    def __init__(self) -> None:
        self.voice: Voice = "library"
        self.stages: list[_Stage] = []
        self.best: float | None = None
        self.value_of: Callable[[Any], float | None] | None = None
        self.said = 0.0
        self.drawn = False
        self.lock = RLock()

    @property
    def moves(self) -> bool:
        """Whether somebody looks at a line that moves."""
        return self.voice != "quiet" and bool(self.stages) and sys.stderr.isatty()

    def draw(self) -> None:
        if time.monotonic() - self.stages[0].begin < PATIENCE_SECONDS:
            return
        line = " › ".join(map(str, self.stages)) + self.prospect()
        width = shutil.get_terminal_size().columns - 1
        sys.stderr.write(f"\r\x1b[2K{line[:width]}")
        sys.stderr.flush()
        self.drawn = True

    def prospect(self) -> str:
        """How long it will take, and what is certified already."""
        known = [stage.left for stage in self.stages if stage.left is not None]
        left = f", about {known[-1]:.0f} s left" if known else ""
        return left + ("" if self.best is None else f", certified so far: {self.best:.5g}")

    def wipe(self) -> None:
        if self.drawn:
            sys.stderr.write("\r\x1b[2K")
            sys.stderr.flush()
        self.drawn = False


_shown = _Shown()


def _in_child() -> None:
    _shown.__init__()  # type: ignore[misc]
    _shown.voice = "quiet"


os.register_at_fork(after_in_child=_in_child)  # who waits for it says what there is to say


def speak(voice: Voice) -> None:
    """Choose how much is said from now on."""
    _shown.voice = voice


@contextmanager
def stage(words: str, total: int | None = None, seconds: float | None = None) -> Iterator[Callable[[], None]]:
    """A stage while the block runs, and what advances it by one.

    total: its parts, seconds: at most what it takes; None where that is not known.
    """
    own = _Stage(words, total, seconds)
    with _shown.lock:
        _shown.stages.append(own)
        if _shown.voice == "command" and not sys.stderr.isatty():
            _say_begin()

    def advance() -> None:
        with _shown.lock:
            own.done += 1
            refresh()
            if _shown.voice == "library" and not sys.stderr.isatty():
                _say_now_and_then(own)

    try:
        yield advance
    finally:
        with _shown.lock:
            _shown.wipe()
            _shown.stages.remove(own)
            if not _shown.stages:
                _shown.best = None


@contextmanager
def listening(value_of: Callable[[Any], float | None]) -> Iterator[None]:
    """Have `hear` told of a process's reports while the block runs; value_of: the certified value of one, if any."""
    before, _shown.value_of = _shown.value_of, value_of
    try:
        yield
    finally:
        _shown.value_of = before


def hear(reported: Any) -> None:
    """Of a process that works for this one: what it has so far; looked at only where somebody watches."""
    if _shown.moves and _shown.value_of is not None and (value := _shown.value_of(reported)) is not None:
        told(value)


def told(value: float) -> None:
    """That a value is certified."""
    with _shown.lock:
        if _shown.stages and (_shown.best is None or value < _shown.best):
            _shown.best = value
            refresh()


def is_watched() -> bool:
    """Whether somebody looks at a line that moves: who waits calls `refresh` then."""
    return _shown.moves


def refresh() -> None:
    """Show that time goes by."""
    with _shown.lock:
        if _shown.moves:
            _shown.draw()


def _say_begin() -> None:
    """The line of a stage that begins."""
    last = _shown.stages[-1]
    known = [f", {last.total} of them" if last.total is not None else ""]
    known += [f", at most {last.seconds:.0f} s" if last.seconds is not None else ""]
    known += ["" if _shown.best is None else f", certified so far: {_shown.best:.5g}"]
    print(" › ".join(s.words for s in _shown.stages) + "".join(known), file=sys.stderr, flush=True)


def _say_now_and_then(own: _Stage) -> None:
    now = time.monotonic()
    if own.total is not None and now - max(_shown.said, own.begin) >= SECONDS_BETWEEN_LINES:
        _shown.said = now
        print(f"{own.words}: {own.done} of {own.total}, about {own.left:.0f} s left", file=sys.stderr, flush=True)
