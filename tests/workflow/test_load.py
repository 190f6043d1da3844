"""Two thousand programs in one plan: what is done around the solves costs little time and no memory."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from certlip.base import progress
from certlip.base.limits import Limits
from certlip.methods import load
from certlip.network import Activation, Conv, Flatten, Network
from certlip.partition.plan import Plan
from certlip.solving import blocks

N_PROGRAMS = 2000


def distinct(plan: Plan) -> Plan:
    """The plan with each patch of its first segment a program of its own, as in a network without equal patches."""
    first, *others = plan.segments
    split = tuple(
        block.model_copy(update={"windows": (window,), "fields": (field,)})
        for block in first.blocks
        for window, field in zip(block.windows, block.fields, strict=True)
    )
    return plan.model_copy(update={"segments": (first.model_copy(update={"blocks": split}), *others)})


@pytest.mark.nightly
def test_two_thousand_programs_are_solved_with_little_around_them(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:
    rng = np.random.default_rng(0)
    layers = [Conv(f"conv{i}", rng.standard_normal((4, c, 3, 3)), np.zeros(4)) for i, c in enumerate((1, 4))]
    network = Network((layers[0], Activation("act", "relu"), layers[1], Flatten("flatten")), (1, 184, 184))
    plan = distinct(blocks.make_plan(lambda: network, load("dcp"), {"grid": (45, 45), "merge": "sum"}))
    jobs = plan.jobs[:N_PROGRAMS]
    assert len(jobs) == N_PROGRAMS
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 1.0)
    limit = Limits(threads=1, max_seconds=60, max_memory_mb=3000)
    blocks.solve_blocks(network, plan, jobs[:3], limit=limit)
    head = psutil.Process()
    (worker,) = (p for p in head.children() if "resource_tracker" not in " ".join(p.cmdline()))
    before, begin = head.memory_info().rss, time.perf_counter()
    busy_before = [sum(p.cpu_times()[:2]) for p in (head, worker)]
    solved = blocks.solve_blocks(network, plan, jobs, limit=limit)
    wall = time.perf_counter() - begin
    busy, working = (sum(p.cpu_times()[:2]) - b for p, b in zip((head, worker), busy_before, strict=True))
    grown_mb = (head.memory_info().rss - before) / 2**20
    solving = sum(s.seconds for s in solved)
    record_property("programs", len(solved))
    record_property("seconds_of_solving", round(solving, 1))
    record_property("scheduling_overhead_percent_of_solving", round(100 * (wall - solving) / solving, 1))
    record_property("overhead_milliseconds_a_program", round(1000 * (wall - solving) / len(solved), 1))
    record_property("processor_time_of_the_head_process_percent", round(100 * busy / working, 1))
    record_property("head_process_grew_mb", round(grown_mb, 1))
    assert {s.status for s in solved} == {"ok"}
    assert re.search(rf"\d+ of {N_PROGRAMS}, about \d+ s left", capsys.readouterr().err)
    assert busy < 0.1 * working  # the load of the machine does not change it
    assert wall - solving < 0.25 * solving  # it does change this
    assert grown_mb < 50
