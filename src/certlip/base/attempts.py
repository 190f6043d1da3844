"""How often a job was ended for want of time or memory: the next attempt asks a cluster for so much more.

A job that is killed cannot say why. So each notes at its start that it was ended, and takes the note back if it comes
to an end of its own, or is told to end (SIGTERM) before its time is up: what was cancelled did not want for anything.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

NEARLY = 0.9
"""Share of its time after which a job that is told to end has run out of it: the clock of a cluster starts earlier."""


def n_cut_short(log: str | Path) -> int:
    """How many attempts at the job with this log, the last ones in a row, were ended for want of time or memory."""
    notes = _notes_of(log)
    return len(notes.read_text().splitlines()) if notes.exists() else 0


@contextmanager
def noted(log: str | Path, minutes: float | None) -> Iterator[None]:
    """Do the work of the job with this log; minutes: that a cluster allows it, None where nobody does."""
    begin, notes = time.monotonic(), _notes_of(log)
    earlier = notes.read_text() if notes.exists() else ""
    notes.write_text(f"{earlier}ended without an answer\n")
    before = signal.signal(signal.SIGTERM, _exit)
    try:
        yield
        earlier = ""
    except SystemExit as told:
        if told.code == _TOLD_TO_END and minutes and time.monotonic() - begin >= NEARLY * 60 * minutes:
            earlier = notes.read_text()
        raise
    finally:
        signal.signal(signal.SIGTERM, before)
        if earlier:
            notes.write_text(earlier)
        else:
            notes.unlink(missing_ok=True)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(_TOLD_TO_END)


_TOLD_TO_END = 128 + signal.SIGTERM


def _notes_of(log: str | Path) -> Path:
    return Path(f"{log}.cut_short")
