"""Limits of time, memory and threads: what a limit ends is a status, what fails on its own is raised."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from pathlib import Path

import jobs_to_limit as jobs
import numpy as np
import psutil
import pytest
from random_networks import random_network

import certlip
from certlip.base import limits
from certlip.base.errors import CertlipError, LimitExceeded, NoBound, Stopped, UnsupportedLayer
from certlip.base.limits import Limits

GENEROUS = Limits(max_seconds=100, max_memory_mb=2000)


def test_a_call_returns_its_value_and_its_cost() -> None:
    for limit in (Limits(), GENEROUS):
        measured = limits.call(jobs.add, 2, 3, limit=limit)
        assert measured.value == 5
        assert 0 <= measured.seconds < 5
        assert measured.peak_mb > 10


def test_the_peak_of_a_child_leaves_out_what_its_parent_held() -> None:
    limits.end_idle()
    held = np.ones(400 * 2**17)
    holds = psutil.Process().memory_info().rss / 2**20
    del held
    assert limits.call(jobs.add, 2, 3, limit=GENEROUS).peak_mb < holds - 200
    assert limits.call(jobs.fill, 400, limit=GENEROUS).peak_mb > 400


@pytest.mark.parametrize(("threads", "forked"), [(0, True), (1, False)])
def test_only_a_process_without_other_threads_is_forked(threads: int, forked: bool) -> None:
    """What a fork takes over spares the imports; a lock that another thread holds would stay locked for ever."""
    program = f"""
import os, sys, threading
from certlip.base import limits
sys.inherited = True
stop = threading.Event()
for _ in range({threads}):
    threading.Thread(target=stop.wait).start()
inherited = limits.call(hasattr, sys, "inherited", limit=limits.Limits(threads=3, max_seconds=60)).value
threads = limits.call(os.getenv, "OMP_NUM_THREADS", limit=limits.Limits(threads=3, max_seconds=60)).value
stop.set()
print(inherited, threads)
"""
    one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | one, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(forked), "3"]


def test_a_call_over_its_time_is_killed() -> None:
    begin = time.monotonic()
    with pytest.raises(LimitExceeded, match=r"no result within 0\.3 s") as refusal:
        limits.call(jobs.sleep, 60.0, limit=Limits(max_seconds=0.3))
    assert refusal.value.status == "time_limit"
    assert time.monotonic() - begin < 0.3 + limits.ENDING_SECONDS + 4  # of starting and ending a process


def test_a_call_over_its_memory_is_ended() -> None:
    with pytest.raises(LimitExceeded, match="more memory than the 100 MB allowed") as refusal:
        limits.call(jobs.fill, 300, limit=Limits(max_memory_mb=100))
    assert refusal.value.status == "memory_limit"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT])
def test_a_killed_process_is_a_status_that_names_the_signal(number: signal.Signals) -> None:
    with pytest.raises(LimitExceeded, match=number.name) as refusal:
        limits.call(jobs.die, int(number), limit=GENEROUS)
    assert refusal.value.status == "memory_limit"
    assert "certlip retry --limit-rows" in str(refusal.value)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_process_that_somebody_ended_is_no_row(number: signal.Signals) -> None:
    """It says nothing of the network: the job fails, and is done again by the next run."""
    with pytest.raises(Stopped, match=f"{number.name}; run again"):
        limits.call(jobs.die, int(number), limit=GENEROUS)


def test_each_call_of_a_batch_keeps_its_own_limits_and_ends_no_other() -> None:
    """Killed, overdue, out of memory and refused calls between good ones, all sent at once."""
    batch = [("add", 2, 3), ("die", 9), ("fill", 400), ("add", 4, 5), ("sleep", 60.0), ("unsupported",), ("add", 6, 7)]
    found = list(limits.begin(jobs.named, batch, Limits(max_seconds=2, max_memory_mb=200)))
    assert [f.status if isinstance(f, NoBound) else f.value for f in found] == [
        *(5, "memory_limit", "memory_limit", 9, "time_limit", "unsupported", 13)
    ]
    here = list(limits.begin(jobs.named, [batch[0], batch[5], batch[6]], Limits()))
    assert [f.status if isinstance(f, NoBound) else f.value for f in here] == [5, "unsupported", 13]


LIMITED = Limits(max_seconds=2, max_memory_mb=200)


@pytest.mark.parametrize("end", [("sleep", 60.0), ("die", 9), ("fill", 400)], ids=["time", "kill", "memory"])
def test_what_a_call_reported_last_survives_its_end(end: tuple) -> None:
    with pytest.raises(LimitExceeded) as ended:
        limits.call(jobs.report_and, *end, limit=LIMITED)
    assert ended.value.reported == "second"
    assert 0 < ended.value.seconds < 10
    with pytest.raises(LimitExceeded) as next_one:
        limits.call(jobs.die, 9, limit=LIMITED)
    assert next_one.value.reported is None


@pytest.mark.parametrize("end", [("die", 9), ("fill", 400)], ids=["kill", "memory"])
def test_a_call_that_is_ended_in_time_is_finished_from_its_report(end: tuple) -> None:
    limit = Limits(max_seconds=30, max_memory_mb=200)
    finished = limits.call(jobs.report_and, *end, limit=limit, finish=jobs.finish)
    *arguments, reported, why = finished.value
    assert (tuple(arguments), reported) == (end, "second")
    assert "SIGKILL" in why or "200 MB" in why
    assert finished.seconds > limits.REPORT_SECONDS


def test_a_call_whose_time_is_up_is_not_finished() -> None:
    begin = time.monotonic()
    with pytest.raises(LimitExceeded, match="no result within 2 s"):
        limits.call(jobs.report_and, "sleep", 60.0, limit=LIMITED, finish=jobs.sleep)
    assert time.monotonic() - begin < 2 + limits.ENDING_SECONDS + 2


def test_a_report_that_nobody_waits_for_is_not_made() -> None:
    limits.report(lambda: pytest.fail("it was made"))


IN_A_MODULE_OF_ITS_PARENT = """
import os, sys, threading, types
from certlip.base import limits
stop = threading.Event()
threading.Thread(target=stop.wait).start()  # so that nothing is forked
only_here = sys.modules["only_here"] = types.ModuleType("only_here")
exec("def function(): pass", only_here.__dict__)
try:
    limits.call(only_here.function, limit=limits.Limits(max_seconds=60))
except Exception as error:
    print(type(error).__name__, error)
print(limits.call(os.getpid, limit=limits.Limits(max_seconds=60)).value > 0)
stop.set()
"""


def test_a_process_that_cannot_import_something_says_so() -> None:
    """As every process does that has threads already, which it has with OMP_NUM_THREADS unset."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    command = [sys.executable, "-c", IN_A_MODULE_OF_ITS_PARENT]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["ModuleNotFoundError No module named 'only_here'", "True"]


class ReadByImport:
    """What a process reads by an import."""

    def __reduce__(self) -> tuple:
        return importlib.import_module, ("exits_when_imported",)


def test_a_process_that_cannot_start_is_an_error_and_not_for_want_of_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    limits.end_idle()
    (tmp_path / "exits_when_imported.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(CertlipError, match="could not start \\(exit code 3\\)"):
        limits.call(len, ReadByImport(), limit=GENEROUS)


def test_what_a_call_raises_tells_where() -> None:
    with pytest.raises(RuntimeError, match="mine") as raised:
        limits.call(jobs.fail, RuntimeError("mine"), limit=GENEROUS)
    assert any("jobs_to_limit.py" in note for note in raised.value.__notes__)


def test_a_fork_of_this_process_has_workers_of_its_own() -> None:
    """Otherwise two processes would hear each other's answers."""
    mine = limits.call(os.getpid, limit=GENEROUS).value
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
        assert pool.submit(jobs.pid_of_a_call, GENEROUS).result(60) != mine
    assert limits.call(os.getpid, limit=GENEROUS).value == mine


WITH_WORKERS = """
import os, threading, time
import jobs_to_limit as jobs
from certlip.base import limits
from certlip.base.limits import Limits
limits.call(os.getpid, limit=Limits(max_seconds=100))
limit = Limits(threads=2, max_seconds=100)
at_work = threading.Thread(target=limits.call, args=(jobs.sleep, 4.0), kwargs={"limit": limit})
at_work.daemon = True
at_work.start()
time.sleep(2)
print("ready", flush=True)
input()
"""


@pytest.mark.parametrize("killed", [False, True], ids=["ended", "killed"])
def test_no_process_outlives_for_long_the_one_that_it_works_for(killed: bool) -> None:
    """One of them waits for a call, one is at work."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with psutil.Popen([sys.executable, "-c", WITH_WORKERS], cwd=Path(jobs.__file__).parent, **pipes) as owner:
        try:
            assert owner.stdout.readline() == b"ready\n"
            workers = [p for p in owner.children() if "resource_tracker" not in " ".join(p.cmdline())]
            assert len(workers) == 2
            if killed:
                owner.kill()
            else:
                owner.stdin.write(b"\n")
                owner.stdin.flush()
            owner.wait(30)
        finally:
            with suppress(psutil.NoSuchProcess):
                owner.kill()
        _, alive = psutil.wait_procs(workers, 60)
        assert not alive


def test_an_exception_that_cannot_be_made_again_is_told_in_words() -> None:
    with pytest.raises(RuntimeError, match="Awkward: no convergence: too few steps"):
        limits.call(jobs.fail_awkwardly, limit=GENEROUS)


def test_lack_of_memory_is_recognised_whatever_class_it_has() -> None:
    with pytest.raises(LimitExceeded, match="more memory than there is"):
        limits.call(jobs.run_out_of_memory_like_torch, limit=Limits(max_seconds=100))
    with pytest.raises(LimitExceeded, match="2000 MB"):
        limits.call(jobs.fail, OSError("libgomp.so.1: failed to map segment from shared object"), limit=GENEROUS)
    with pytest.raises(LimitExceeded, match="2000 MB"):
        limits.call(jobs.fail, RuntimeError("std::bad_alloc"), limit=GENEROUS)
    for sentence in (
        "error return without exception set",
        "<built-in function exec_dynamic> returned NULL without setting an exception",
        "initialization of _torch failed without raising an exception",
    ):
        with pytest.raises(LimitExceeded, match="2000 MB"):
            limits.call(jobs.fail, SystemError(sentence), limit=GENEROUS)
    with pytest.raises(SystemError, match="bad argument"):
        limits.call(jobs.fail, SystemError("bad argument to internal function"), limit=GENEROUS)


@pytest.mark.parametrize("solver", ["structured", "clarabel"])
def test_a_memory_limit_too_small_for_the_imports_is_a_row_that_says_so(solver: str) -> None:
    """Torch and the conic solvers' libraries cannot be loaded in 3 MB: no solver has failed, and none is missing."""
    record = certlip.bound(random_network(1, max_linear=3), method="lipsdp", solver=solver, max_memory_mb=3)
    assert record.value == certlip.bound(random_network(1, max_linear=3), method="product").value
    assert "use the product of norms: " in record.reason
    assert "memory" in record.reason
    assert "not installed" not in record.reason


@pytest.mark.parametrize("error", [RuntimeError("mine"), TimeoutError("mine")])
def test_exceptions_of_the_function_pass_through(error: Exception) -> None:
    for limit in (Limits(), GENEROUS):
        with pytest.raises(type(error), match="mine"):
            limits.call(jobs.fail, error, limit=limit)


def test_refusals_keep_their_words_across_the_process() -> None:
    with pytest.raises(UnsupportedLayer, match="attn: no bound for MultiheadAttention"):
        limits.call(jobs.unsupported, limit=GENEROUS)
    with pytest.raises(LimitExceeded, match="conv3 is too large") as refusal:
        limits.call(jobs.fail, LimitExceeded("memory_limit", "conv3 is too large"), limit=GENEROUS)
    assert refusal.value.status == "memory_limit"


def test_threads_are_fixed_inside() -> None:
    found, environment, process = limits.call(jobs.threads, limit=Limits(threads=2, max_seconds=100)).value
    assert found == {min(2, os.cpu_count() or 1)}
    assert environment == "2"
    assert process != os.getpid()


@pytest.mark.parametrize("max_seconds", [None, 60.0])
def test_what_a_call_takes_of_scipy_is_there_before_its_clock_and_its_threads_are_fixed(
    max_seconds: float | None,
) -> None:
    """SciPy brings a BLAS of its own, which is loaded when it is first used."""
    code = f"""
import certlip, jobs_to_limit
from certlip.base import limits
print(limits.call(jobs_to_limit.scipys_threads, limit=limits.Limits(1, {max_seconds})).value)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(jobs.__file__).parent,
        env={**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "[1]\n"


def test_threads_are_fixed_in_this_process_too_and_given_back() -> None:
    from threadpoolctl import threadpool_info, threadpool_limits

    np.linalg.norm(np.eye(3))
    with threadpool_limits(2):
        before = [pool["num_threads"] for pool in threadpool_info()]
        found, _, process = limits.call(jobs.threads, limit=Limits(threads=1)).value
        assert found == {1}
        assert process == os.getpid()
        assert [pool["num_threads"] for pool in threadpool_info()] == before


def test_one_call_leaves_no_limit_behind_for_the_next() -> None:
    with pytest.raises(LimitExceeded):
        limits.call(jobs.fill, 300, limit=Limits(max_memory_mb=50))
    assert limits.call(jobs.fill, 300, limit=Limits(max_memory_mb=900)).value == 300 * 2**17
    assert limits.call(jobs.fill, 300, limit=Limits()).value == 300 * 2**17


def test_calls_under_the_same_limits_share_a_process_and_each_has_its_own_peak() -> None:
    limit = Limits(max_seconds=101, max_memory_mb=900)
    first, large, last = (limits.call(jobs.fill_and_tell, size, limit=limit) for size in (1, 300, 1))
    assert first.value == large.value == last.value
    assert large.peak_mb > last.peak_mb + 200
    with pytest.raises(UnsupportedLayer):
        limits.call(jobs.unsupported, limit=limit)
    assert limits.call(jobs.fill_and_tell, 1, limit=limit).value == first.value
    with pytest.raises(LimitExceeded):
        limits.call(jobs.die, int(signal.SIGKILL), limit=limit)
    assert limits.call(jobs.fill_and_tell, 1, limit=limit).value != first.value


def test_a_call_after_the_idle_are_ended_has_a_process_of_its_own() -> None:
    first, same = (limits.call(os.getpid, limit=GENEROUS).value for _ in range(2))
    limits.end_idle()
    assert limits.call(os.getpid, limit=GENEROUS).value not in (first, os.getpid())
    assert same == first
