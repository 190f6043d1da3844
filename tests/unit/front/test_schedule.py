"""A simulated run takes what list scheduling takes, and is of the jobs that were written down."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from certlip.base.errors import DataError
from certlip.base.timing import HEAD, Timing, load_timings, save_timing
from certlip.schedule import CORES, TimedJob, head_seconds_of, jobs_of, longest_chain, run_seconds, simulate

#   first 3 -> second 2 \
#   third 1 -> fourth 4 -> last 1
DIAMOND = [
    TimedJob("first", 1, 3.0),
    TimedJob("second", 1, 2.0, needs=(0,)),
    TimedJob("third", 1, 1.0),
    TimedJob("fourth", 1, 4.0, needs=(2,)),
    TimedJob("last", 1, 1.0, needs=(1, 3)),
]


def random_jobs(seed: int, n_jobs: int = 40) -> list[TimedJob]:
    rng = random.Random(seed)
    return [
        TimedJob(
            str(place),
            1,
            rng.uniform(0.1, 9),
            needs=tuple(sorted(rng.sample(range(place), min(place, rng.randrange(3))))),
        )
        for place in range(n_jobs)
    ]


@pytest.mark.parametrize(("cores", "seconds"), [(1, 11.0), (2, 6.0), (3, 6.0), (128, 6.0)])
def test_a_known_optimum_is_found(cores: int, seconds: float) -> None:
    assert run_seconds(DIAMOND, cores) == seconds


def test_what_has_the_longest_chain_behind_it_starts_first() -> None:
    jobs = [TimedJob("1", 1, 1.0), TimedJob("2", 1, 1.0), TimedJob("3", 1, 0.5), TimedJob("4", 1, 1.5, needs=(2,))]
    assert run_seconds(jobs, 2) == 2.0


def test_the_longest_chain_is_named_in_order() -> None:
    slower = [replace(DIAMOND[0], serial_seconds=3.5), *DIAMOND[1:]]
    assert [job.name for job in longest_chain(slower, 128)] == ["first", "second", "last"]
    faster = [replace(DIAMOND[0], serial_seconds=2.5), *DIAMOND[1:]]
    assert [job.name for job in longest_chain(faster, 128)] == ["third", "fourth", "last"]


@pytest.mark.parametrize("seed", range(20))
def test_a_run_takes_at_least_its_work_and_its_chain_and_at_most_what_graham_proved(seed: int) -> None:
    jobs, head = random_jobs(seed), 0.0
    work = run_seconds(jobs, 1, head)
    assert work == pytest.approx(sum(job.serial_seconds for job in jobs))
    for cores in CORES:
        chain = sum(job.seconds(cores) for job in longest_chain(jobs, cores))
        seconds = run_seconds(jobs, cores, head)
        assert max(work / cores, chain) <= seconds * (1 + 1e-12)
        assert seconds <= (work / cores + (1 - 1 / cores) * chain) * (1 + 1e-12)


def test_a_job_that_asks_for_more_threads_than_there_are_runs_alone() -> None:
    jobs = [TimedJob("alone", 1000, 5.0), *(TimedJob(str(n), 1, 2.0) for n in range(4))]
    assert run_seconds(jobs, 4) == 7.0
    assert run_seconds(jobs, 1) == 13.0
    assert run_seconds([TimedJob("long", 1, 7.0), jobs[0]], 4) == 12.0


def test_threads_make_only_the_parallel_part_faster() -> None:
    job = TimedJob("check", 8, 1.0, 16.0)
    assert [run_seconds([job], cores) for cores in (1, 4, 8, 128)] == [17.0, 5.0, 3.0, 3.0]


def test_the_head_starts_one_job_after_the_other() -> None:
    jobs = [TimedJob(str(n), 1, 0.5) for n in range(100)]
    assert run_seconds(jobs, 128, 0.1) == pytest.approx(100 * 0.1 + 0.5)
    assert run_seconds(jobs, 1, 0.1) == pytest.approx(100 * 0.6)


def test_the_rows_are_the_run_on_each_number_of_cores_and_then_the_chain() -> None:
    rows = simulate(DIAMOND, 0.0, (1, 2))
    assert rows["part"].tolist() == ["run", "run", "chain", "chain", "chain"]
    assert rows["seconds"].tolist() == [11.0, 6.0, *(job.serial_seconds for job in longest_chain(DIAMOND, 2))]
    assert rows["efficiency"].tolist()[:2] == [1.0, 11 / 12]
    assert rows["ratio"].tolist()[:2] == [11 / 17, 6 / 11.5]


def timing(job: str, inputs: list[str], outputs: list[str], seconds: float = 1.0, **more) -> Timing:
    rule = job.split()[0]
    known = {"threads": 1, "cpu_seconds": seconds, "ended": 10.0, "head": "1", "head_cpu_seconds": 1.0, **more}
    return Timing(rule, job, inputs, outputs, seconds=seconds, **known)


RUN = [
    timing("write_table a", ["bounds"], ["table"], 5.0),
    timing("bound_network a", ["network"], ["bounds"], 3.0),
    timing("export_network a", [], ["network"], 2.0),
]


def test_jobs_stand_after_those_whose_files_they_read_and_others_do_not_count() -> None:
    jobs = jobs_of([*RUN, timing("export_network b", [], ["other"])], ["table", "bounds"], {})
    assert [(job.name, job.needs) for job in jobs] == [
        ("export_network a", ()),
        ("bound_network a", (0,)),
        ("write_table a", (1,)),
    ]


def test_the_last_time_a_job_was_done_counts() -> None:
    again = timing("bound_network a", ["network"], ["bounds"], 7.0, ended=20.0)
    for timings in ([*RUN, again], [again, *RUN]):
        assert [job.serial_seconds for job in jobs_of(timings, ["table"], {})] == [2.0, 7.0, 5.0]


def test_what_nobody_wrote_down_is_named_with_a_remedy() -> None:
    with pytest.raises(DataError, match="that made network; make them again"):
        jobs_of(RUN[:2], ["table"], {})
    with pytest.raises(DataError, match="that made d, c, b and 2 more; make"):
        jobs_of(RUN[:2], ["table", *"abcd"], {})


def test_a_job_asks_for_what_its_rule_or_part_asks_for_though_it_was_given_less() -> None:
    asked = {"export_network": 8, "bounds": 3, "write_table": 1}
    assert [job.threads for job in jobs_of(RUN, ["table"], asked)] == [8, 3, 1]


@pytest.mark.parametrize(
    ("threads", "seconds", "cpu_seconds", "serial", "parallel"),
    [(1, 3.0, 2.0, 3.0, 0.0), (2, 3.0, 2.9, 3.0, 0.0), (2, 3.0, 6.0, 0.0, 6.0), (4, 4.0, 13.0, 1.0, 12.0)],
)
def test_the_part_that_threads_share_follows_from_cpu_time(threads, seconds, cpu_seconds, serial, parallel) -> None:
    (job,) = jobs_of([timing("check", [], ["x"], seconds, threads=threads, cpu_seconds=cpu_seconds)], ["x"], {})
    assert (job.serial_seconds, job.parallel_seconds) == pytest.approx((serial, parallel))
    assert job.seconds(threads) == pytest.approx(seconds)


def test_the_head_takes_its_cpu_time_from_one_end_of_a_job_to_the_next() -> None:
    def of(head: str, ended: float, taken: float) -> Timing:
        return timing("rule", [], [], head=head, ended=ended, head_cpu_seconds=taken)

    assert head_seconds_of([of("1", 1, 5.0), of("1", 3, 5.4), of("1", 2, 5.1), of("2", 9, 0.1)]) == pytest.approx(0.2)
    assert head_seconds_of([of("1", 1, 5.0), of("2", 2, 5.0)]) == 0.0


JOB = """
import subprocess, sys, time
from pathlib import Path
from types import SimpleNamespace
from certlip.base.timing import HEAD, Timing, load_timings, save_timing
burn = "import time; [0 for _ in iter(lambda: time.process_time() < 0.3, False)]"
subprocess.run([sys.executable, "-c", burn], check=True)
alive = subprocess.Popen([sys.executable, "-c", burn + "; print(flush=True); time.sleep(60)"], stdout=subprocess.PIPE)
alive.stdout.readline()
save_timing(SimpleNamespace(
    rule="solve_blocks", wildcards=["a", "b"], input=["in"], output=["out"], threads=2, log=[sys.argv[1]]))
print(time.process_time(), time.time())
alive.kill()
"""


def test_a_job_writes_down_its_time_with_that_of_processes_that_ended_and_that_are_there(tmp_path: Path) -> None:
    begin = time.time()
    command = [sys.executable, "-c", JOB, str(tmp_path / "a.log")]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    (tmp_path / "damaged.log.json").write_text(json.dumps({"rule": "x"}))
    (written,) = load_timings(tmp_path)
    assert (written.job, written.inputs, written.outputs) == ("solve_blocks a b", ["in"], ["out"])
    own_cpu_seconds, end = map(float, done.stdout.split())
    assert 0.5 < written.cpu_seconds - own_cpu_seconds < 0.9
    assert end - begin - 0.5 < written.seconds < end - begin + 0.1


def test_a_job_that_cannot_see_who_started_it_writes_nothing_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HEAD, str(2**22 + 1))  # more than the largest number of a process
    save_timing(SimpleNamespace(rule="r", wildcards=[], input=[], output=[], threads=1, log=[str(tmp_path / "a.log")]))
    assert list(tmp_path.iterdir()) == []
