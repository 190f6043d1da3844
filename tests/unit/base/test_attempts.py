"""Attempts that ended for want of time or memory are counted, all others are not."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from certlip.base.attempts import n_cut_short, noted

JOB = """
import sys, time
from certlip.base.attempts import noted
with noted(sys.argv[1], float(sys.argv[2])):
    print("begun", flush=True)
    time.sleep(float(sys.argv[3]))
"""


def attempt(log: Path, minutes: float, number: signal.Signals | None, after: float = 0.0) -> int:
    """Exit code of a job that a signal ends, or nothing."""
    seconds = "60" if number else "0"
    command = [sys.executable, "-c", JOB, str(log), str(minutes), seconds]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as job:
        assert job.stdout is not None
        job.stdout.readline()
        if number:
            time.sleep(after)
            job.send_signal(number)
        return job.wait(30)


def test_what_is_killed_again_and_again_is_counted_until_it_succeeds(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    assert n_cut_short(log) == 0
    for number in (1, 2):
        assert attempt(log, 10, signal.SIGKILL) == -signal.SIGKILL
        assert n_cut_short(log) == number
    assert attempt(log, 10, None) == 0
    assert n_cut_short(log) == 0
    assert list(tmp_path.iterdir()) == []


def test_a_cancelled_job_did_not_want_for_anything(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    attempt(log, 10, signal.SIGKILL)
    assert attempt(log, 10, signal.SIGTERM) == 128 + signal.SIGTERM
    assert attempt(log, 10, signal.SIGINT) != 0
    assert n_cut_short(log) == 1


def test_a_job_told_to_end_when_its_time_is_up_ran_out_of_it(tmp_path: Path) -> None:
    log = tmp_path / "job.log"
    attempt(log, 1 / 60, signal.SIGTERM, after=1.0)
    assert n_cut_short(log) == 1


def test_a_job_that_fails_did_not_want_for_anything(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="wrong"), noted(tmp_path / "job.log", 10):
        raise ValueError("wrong")
    assert n_cut_short(tmp_path / "job.log") == 0
