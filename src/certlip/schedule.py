"""How long a finished run of the workflow would take on another number of cores: list scheduling over its real DAG.

Whenever cores are free, the ready job with the longest chain behind it starts, or the next one that fits. A job holds
the threads that it asks for, at most all cores. The process that starts the jobs does so one after the other.
"""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import pandas as pd

from certlip.base.errors import DataError
from certlip.base.timing import Timing

CORES = (1, 2, 4, 8, 16, 32, 64, 128)

COLUMNS = ["part", "job", "cores", "seconds", "efficiency", "work_and_chain_seconds", "ratio", "head_seconds"]


@dataclass(frozen=True)
class TimedJob:
    """A job of a run, with the seconds that do not and that do become fewer with threads; needs: places of other jobs
    before it in a sequence."""

    name: str
    threads: int
    serial_seconds: float
    parallel_seconds: float = 0.0
    needs: tuple[int, ...] = ()

    def width(self, cores: int) -> int:
        """Cores that it holds, of so many."""
        return min(self.threads, cores)

    def seconds(self, cores: int) -> float:
        return self.serial_seconds + self.parallel_seconds / self.width(cores)


def simulate(jobs: Sequence[TimedJob], head_seconds: float, cores: Sequence[int] = CORES) -> pd.DataFrame:
    """A row a number of cores, then one a job of the longest chain on the most of them.

    efficiency: work / (cores * seconds), where work is the time on one core; work_and_chain_seconds: work / cores and
    the longest chain, within which list scheduling keeps jobs of one thread, and ratio the quotient of seconds and
    this; head_seconds: what starting all jobs takes, of head_seconds each.
    """
    work = run_seconds(jobs, 1, head_seconds)
    rows = []
    for n in cores:
        seconds = run_seconds(jobs, n, head_seconds)
        chain = sum(job.seconds(n) + head_seconds for job in longest_chain(jobs, n, head_seconds))
        reference = work / n + chain
        run = {"part": "run", "job": f"all {len(jobs)}", "cores": n, "seconds": seconds}
        quality = {
            "efficiency": work / (n * seconds),
            "work_and_chain_seconds": reference,
            "ratio": seconds / reference,
        }
        rows.append({**run, **quality, "head_seconds": len(jobs) * head_seconds})
    most = max(cores)
    rows += [
        {"part": "chain", "job": job.name, "cores": job.width(most), "seconds": job.seconds(most)}
        for job in longest_chain(jobs, most, head_seconds)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def run_seconds(jobs: Sequence[TimedJob], cores: int, head_seconds: float = 0.0) -> float:
    """Seconds until the last job has ended."""
    after = _after(jobs)
    chains = _chain_seconds(jobs, cores, head_seconds)
    missing = [len(job.needs) for job in jobs]
    ready = sorted((-chains[place], place) for place, n in enumerate(missing) if not n)
    running: list[tuple[float, int]] = []
    free, now, head_is_free = cores, 0.0, 0.0
    while ready or running:
        waiting = []
        for position, (chain, place) in enumerate(ready):
            if not free:
                waiting += ready[position:]
                break
            if jobs[place].width(cores) > free:
                waiting.append((chain, place))
                continue
            free -= jobs[place].width(cores)
            head_is_free = max(now, head_is_free) + head_seconds
            heapq.heappush(running, (head_is_free + jobs[place].seconds(cores), place))
        ready = waiting
        now, ended = heapq.heappop(running)
        free += jobs[ended].width(cores)
        for place in after[ended]:
            missing[place] -= 1
            if not missing[place]:
                bisect.insort(ready, (-chains[place], place))
    return now


def longest_chain(jobs: Sequence[TimedJob], cores: int, head_seconds: float = 0.0) -> list[TimedJob]:
    """The jobs, each waiting for the one before it, that no number of cores makes faster."""
    after, chains = _after(jobs), _chain_seconds(jobs, cores, head_seconds)
    found, following = [], [place for place, job in enumerate(jobs) if not job.needs]
    while following:
        place = max(following, key=chains.__getitem__)
        found.append(jobs[place])
        following = after[place]
    return found


def _after(jobs: Sequence[TimedJob]) -> list[list[int]]:
    """The jobs that wait for each job."""
    after: list[list[int]] = [[] for _ in jobs]
    for place, job in enumerate(jobs):
        for needed in job.needs:
            after[needed].append(place)
    return after


def _chain_seconds(jobs: Sequence[TimedJob], cores: int, head_seconds: float) -> list[float]:
    """Of each job the longest chain that begins with it."""
    chains = [0.0] * len(jobs)
    for place, following in reversed(list(enumerate(_after(jobs)))):
        behind = max((chains[other] for other in following), default=0.0)
        chains[place] = head_seconds + jobs[place].seconds(cores) + behind
    return chains


def jobs_of(timings: Iterable[Timing], targets: Iterable[str], asked: Mapping[str, int]) -> list[TimedJob]:
    """The jobs that made the targets, each after those that it needs.

    asked: threads by rule, or by file that is made, where a job asks for more than it was given. Raises DataError if it
    is not known what a job took.
    """
    makers = {file: timing for timing in sorted(timings, key=lambda t: t.ended) for file in timing.outputs}
    jobs: list[TimedJob] = []
    places: dict[str, int] = {}  # by the name of a job
    unknown: dict[str, None] = {}
    pending = list(targets)
    while pending:
        file = pending[-1]
        timing = makers.get(file)
        if timing is None:
            unknown[file] = None
        elif timing.job not in places:
            missing = [i for i in timing.inputs if i not in unknown and not _is_placed(i, makers, places)]
            if missing:
                pending += missing
                continue
            needs = {places[makers[i].job] for i in timing.inputs if i in makers}
            places[timing.job] = len(jobs)
            jobs.append(_job(timing, asked, tuple(sorted(needs))))
        pending.pop()
    if unknown:
        named = ", ".join(list(unknown)[:_MOST_NAMED])
        more = f" and {len(unknown) - _MOST_NAMED} more" if len(unknown) > _MOST_NAMED else ""
        raise DataError(
            f"logs/ does not say what the jobs took that made {named}{more}; make them again (snakemake --forceall), "
            "or leave schedule out of tables and figures"
        )
    return jobs


_MOST_NAMED = 3
"""Files that a sentence names."""


def _is_placed(file: str, makers: Mapping[str, Timing], places: Mapping[str, int]) -> bool:
    return file in makers and makers[file].job in places


def _job(timing: Timing, asked: Mapping[str, int], needs: tuple[int, ...]) -> TimedJob:
    """Serial and parallel seconds follow from wall and CPU time: serial + parallel / threads, and serial + parallel."""
    threads = max([timing.threads, *(asked.get(key, 1) for key in (timing.rule, *timing.outputs))])
    parallel = 0.0
    if timing.threads > 1:
        parallel = (timing.cpu_seconds - timing.seconds) / (1 - 1 / timing.threads)
        parallel = min(max(parallel, 0.0), timing.threads * timing.seconds)
    return TimedJob(timing.job, threads, timing.seconds - parallel / timing.threads, parallel, needs)


def head_seconds_of(timings: Iterable[Timing]) -> float:
    """CPU time that the process which starts the jobs takes for each, from one end of a job to the next; 0 where no
    process started two."""
    seconds, n_jobs = 0.0, 0
    for _, group in groupby(sorted(timings, key=lambda t: (t.head, t.ended)), key=lambda t: t.head):
        taken = [timing.head_cpu_seconds for timing in group]
        seconds += taken[-1] - taken[0]
        n_jobs += len(taken) - 1
    return seconds / n_jobs if n_jobs else 0.0
