"""Killed with -9 in the middle of a solve, or run twice at once: the next run goes on where it was, and no file is half
written."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from workspace import HERE, Workspace, copy_checkout, copy_workspace

from certlip.base.errors import UnsupportedLayer
from certlip.base.files import read_npz
from certlip.base.record import Record
from certlip.retry import retry
from certlip.solving.solved_files import load_solved

RESULT = "results/bounds/block/dcp-sum.json"
SOLVED = "results/blocks/block/dcp-sum/1-of-1.npz"
N_PROGRAMS = 4


@pytest.fixture
def held(finished: Workspace, tmp_path: Path) -> Workspace:
    """A workspace that solves the four programs of one plan one by one, and waits before the third."""
    checkout = copy_checkout(finished.checkout, tmp_path / "checkout")
    shutil.copy(HERE / "solvers" / "held.py", checkout / "src" / "certlip" / "sdp" / "solvers")
    workspace = Workspace(copy_workspace(finished, tmp_path / "run").folder, checkout)
    workspace.restrict(["block"], {"dcp-sum": {"method": "dcp", "solver": "held"}})
    (workspace.folder / "hold").touch()
    return workspace


@pytest.fixture
def head(held: Workspace) -> Iterator[psutil.Process]:
    """The snakemake process, when the third program is being solved. Whatever is left of it is killed in the end."""
    with open(held.folder / "output", "w") as output:
        command = held.command("--set-threads", "solve_plan=1", targets=[RESULT])
        started = psutil.Popen(
            command, cwd=held.folder, env=held.variables, stdout=output, stderr=output, start_new_session=True
        )
        try:
            wait(lambda: len(lines(held, "begun")) == 3)
            yield started
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()


def wait(condition: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)


def lines(workspace: Workspace, file: str) -> list[str]:
    path = workspace.folder / file
    return path.read_text().splitlines() if path.exists() else []


def assert_no_half_file(workspace: Workspace) -> None:
    folders = ("networks", "plans", "blocks", "bounds", "certificates")
    for path in (p for folder in folders for p in (workspace.folder / "results" / folder).rglob("*")):
        if path.suffix == ".npz":
            with contextlib.suppress(UnsupportedLayer):  # a whole file that says why there is no network
                read_npz(path)
        elif path.suffix == ".json":
            json.loads(path.read_text())
        else:
            assert path.is_dir() or path.suffix == ".pt", f"{path} was left behind"


def assert_finished(workspace: Workspace, finished: Workspace) -> None:
    """The bound of the run that was not disturbed is there, each program was solved once, no file is half written."""
    assert Record.load(workspace.folder / RESULT).value == Record.load(finished.folder / RESULT).value
    assert len(lines(workspace, "solved")) == N_PROGRAMS
    assert_no_half_file(workspace)


def test_a_killed_solve_is_a_block_with_a_reason_and_the_run_goes_on(
    held: Workspace, head: psutil.Process, finished: Workspace
) -> None:
    os.kill(int(lines(held, "begun")[-1]), signal.SIGKILL)
    (held.folder / "hold").unlink()
    assert head.wait(120) == 0, (held.folder / "output").read_text()
    _, _, solved = load_solved(held.folder / SOLVED)
    assert sorted(block.status for block in solved) == ["memory_limit", "ok", "ok", "ok"]
    record = Record.load(held.folder / RESULT)
    assert "SIGKILL" in record.reason
    product = Record.load(finished.folder / "results/bounds/block/product.json").value
    assert record.value is not None
    assert product is not None
    assert record.value >= product
    # what the reason advises
    assert "certlip retry --limit-rows" in record.reason
    assert retry(held.folder / "results", limit_rows=True) == ["block/dcp-sum"]
    outcome = held.snakemake(targets=[RESULT])
    assert outcome.returncode == 0, outcome.text
    again = Record.load(held.folder / RESULT)
    assert (again.value, again.reason) == (Record.load(finished.folder / RESULT).value, "")


def test_a_killed_job_fails_and_the_next_run_solves_only_what_is_left(
    held: Workspace, head: psutil.Process, finished: Workspace
) -> None:
    worker = psutil.Process(int(lines(held, "begun")[-1]))
    job = next(p for p in worker.parents() if "solve_plan.py" in " ".join(p.cmdline()))
    for process in (job, worker):
        process.kill()
    assert head.wait(120) == 1
    assert "Error in rule solve_plan" in (held.folder / "output").read_text()
    assert not (held.folder / SOLVED).exists()
    (held.folder / "hold").unlink()
    outcome = held.snakemake(targets=[RESULT])
    assert outcome.returncode == 0, outcome.text
    assert outcome.jobs == {"solve_plan block dcp-sum"}
    assert_finished(held, finished)


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "with its jobs"])
def test_a_killed_head_process_is_resumed_after_an_unlock(
    held: Workspace, head: psutil.Process, finished: Workspace, alone: bool
) -> None:
    if alone:
        head.kill()
        (held.folder / "hold").unlink()
        wait((held.folder / RESULT).exists)  # its job lives on, and nobody hears that it is done
    else:
        os.killpg(head.pid, signal.SIGKILL)
        (held.folder / "hold").unlink()
    head.wait()
    locked = held.snakemake(targets=[RESULT])
    assert locked.returncode != 0
    assert "--unlock" in locked.text
    assert held.snakemake("--unlock").returncode == 0
    outcome = held.snakemake(targets=[RESULT])
    assert outcome.returncode == 0, outcome.text
    assert outcome.jobs == {"solve_plan block dcp-sum"}
    assert_finished(held, finished)


def test_a_second_run_beside_a_live_one_is_refused_and_nothing_is_lost(
    held: Workspace, head: psutil.Process, finished: Workspace
) -> None:
    files = {path: path.stat().st_mtime_ns for path in (held.folder / "results").rglob("*") if path.is_file()}
    second = held.snakemake(targets=[RESULT])
    assert second.returncode != 0
    assert "Directory cannot be locked" in second.text
    assert "no other Snakemake process" in second.text
    assert "Traceback" not in second.text
    assert second.jobs == set()
    assert files == {path: path.stat().st_mtime_ns for path in files}
    assert head.is_running()
    assert len(lines(held, "begun")) == 3
    (held.folder / "hold").unlink()
    assert head.wait(120) == 0, (held.folder / "output").read_text()
    assert_finished(held, finished)
