"""Bars on a terminal and nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

SLOW = """
import time
from certlip.base.progress import stage
with stage("patience", {total}) as advance:
    for _ in range(3):
        time.sleep({seconds})
        advance()
print("done")
"""


def seen_on_a_terminal(code: str) -> str:
    """What a terminal receives on stderr."""
    main, end = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=end) as process:
        os.close(end)
        seen = b""
        try:
            while chunk := os.read(main, 4096):
                seen += chunk
        except OSError:  # how Linux says that the other end is closed
            pass
    os.close(main)
    assert process.returncode == 0, seen
    return seen.decode()


def test_who_waits_at_a_terminal_sees_a_bar_that_counts() -> None:
    seen = seen_on_a_terminal(SLOW.format(total=3, seconds=0.6))
    assert "patience" in seen
    assert "2/3" in seen


def test_a_wait_of_unknown_length_has_a_bar_without_count() -> None:
    seen = seen_on_a_terminal(SLOW.format(total=None, seconds=0.6))
    assert "patience" in seen
    assert "/" not in seen


def test_what_is_quick_shows_nothing() -> None:
    assert seen_on_a_terminal(SLOW.format(total=3, seconds=0.0)) == ""


def test_a_log_has_no_bar(tmp_path: Path) -> None:
    with open(tmp_path / "log", "w") as log:
        subprocess.run([sys.executable, "-c", SLOW.format(total=3, seconds=0.6)], stderr=log, stdout=log, check=True)
    assert (tmp_path / "log").read_text() == "done\n"


def test_a_log_is_told_how_much_is_done_and_how_long_the_rest_will_take() -> None:
    code = "from certlip.base import progress\nprogress.SECONDS_BETWEEN_LINES = 0.2\n" + SLOW.format(
        total=3, seconds=0.3
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "patience: 1 of 3, about 1 s left" in done.stderr
