"""What a job of the workflow took, written beside its log: the last time it was done counts."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from certlip.base.files import write_atomically

HEAD = "CERTLIP_HEAD"
"""Environment variable: the process that started the job, set by the Snakefile. Jobs note what that one took."""


@dataclass(frozen=True)
class Timing:
    """One job.

    rule: of the workflow; job: rule and wildcards; inputs, outputs: files; threads: that it was given; seconds: wall
    time from the start of its process; cpu_seconds: of that process and all that it started; ended: when, as
    `time.time` counts; head: which process started it; head_cpu_seconds: what that one had taken by then.
    """

    rule: str
    job: str
    inputs: list[str]
    outputs: list[str]
    threads: int
    seconds: float
    cpu_seconds: float
    ended: float
    head: str
    head_cpu_seconds: float


def save_timing(snakemake: Any) -> None:
    """Write what the job that calls this took so far; nothing in a container that does not see who started it."""
    me, head = os.getpid(), int(os.environ.get(HEAD, os.getppid()))
    if not Path(f"/proc/{head}").exists():
        return
    timing = Timing(
        rule=snakemake.rule,
        job=" ".join([snakemake.rule, *snakemake.wildcards]),
        inputs=[str(file) for file in snakemake.input],
        outputs=[str(file) for file in snakemake.output],
        threads=snakemake.threads,
        seconds=time.clock_gettime(time.CLOCK_BOOTTIME) - _started(me),
        cpu_seconds=_cpu_seconds_of_all(me),
        ended=time.time(),
        head=f"{head} since {_started(head)}",
        head_cpu_seconds=_cpu_seconds(head),
    )
    with write_atomically(f"{snakemake.log[0]}.json", "w") as handle:
        json.dump(asdict(timing), handle, indent=1)


def load_timings(folder: str | Path) -> Iterator[Timing]:
    """Every job written down in a folder of logs; a file that cannot be read says nothing."""
    for path in sorted(Path(folder).rglob("*.log.json")):
        with suppress(ValueError, TypeError):
            yield Timing(**json.loads(path.read_text()))


_TICKS = os.sysconf("SC_CLK_TCK")


def _stat(process: int) -> list[str]:
    """The fields of proc(5) after the name, the state first."""
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()


def _started(process: int) -> float:
    """Seconds after the boot of the machine."""
    return int(_stat(process)[19]) / _TICKS


def _cpu_seconds(process: int, n_fields: int = 2) -> float:
    """Of the process itself; with four fields, of its children that ended as well."""
    return sum(map(int, _stat(process)[11 : 11 + n_fields])) / _TICKS


def _cpu_seconds_of_all(process: int) -> float:
    """Of a process and all that it started, which may be still there."""
    seconds = 0.0
    with suppress(OSError):  # it ended meanwhile
        seconds = _cpu_seconds(process, 4)
        for file in Path(f"/proc/{process}/task").glob("*/children"):
            seconds += sum(_cpu_seconds_of_all(int(child)) for child in file.read_text().split())
    return seconds
