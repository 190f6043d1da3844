"""A bar for who waits at a terminal: none in logs, none for what takes less than a second."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer

PATIENCE_SECONDS = 1.0


@contextmanager
def bar(words: str, total: int | None = None) -> Iterator[Callable[[], None]]:
    """A bar while the block runs, and what advances it by one; total: None for a wait of unknown length."""
    if not sys.stderr.isatty():
        yield lambda: None
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
