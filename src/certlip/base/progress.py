"""What remains to be done: a bar for who waits at a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer

SECONDS_BETWEEN_LINES = 10.0
PATIENCE_SECONDS = 1.0


@contextmanager
def bar(words: str, total: int | None = None) -> Iterator[Callable[[], None]]:
    """A bar while the block runs, and what advances it by one; total: None for a wait of unknown length."""
    if not sys.stderr.isatty():
        yield _lines(words, total)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    count = [] if total is None else [MofNCompleteColumn()]
    columns = [TextColumn("{task.description}"), BarColumn(), *count, TimeElapsedColumn()]
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    task = progress.add_task(words, total=total)
    later = Timer(PATIENCE_SECONDS, progress.start)
    later.daemon = True
    later.start()
    try:
        yield lambda: progress.advance(task)
    finally:
        later.cancel()
        later.join()
        progress.stop()


def _lines(words: str, total: int | None) -> Callable[[], None]:
    """For a log: now and then a line of what is done and how long the rest will take."""
    begin = said = time.monotonic()
    done = 0

    def advance() -> None:
        nonlocal said, done
        done, now = done + 1, time.monotonic()
        if total is not None and now - said >= SECONDS_BETWEEN_LINES:
            said = now
            left = (now - begin) / done * (total - done)
            print(f"{words}: {done} of {total}, about {left:.0f} s left", file=sys.stderr, flush=True)

    return advance
