"""What was predicted stands beside what it came to, program by program."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import measurements
import pandas as pd
import pytest
from automatic_plans import automatic, net

from certlip.base.record import Status
from certlip.methods import dcp
from certlip.predictions import COLUMNS, collect
from certlip.solving.blocks import solve_blocks
from certlip.tables import predictions as table
from certlip.tables.predictions import spread, with_factors


def test_each_job_of_a_predicted_plan_is_a_row_with_what_it_took() -> None:
    network = net()
    plan, given = automatic(network, chain=True), dcp.plan(network)
    solved = solve_blocks(network, plan)
    rows = collect([("n", "auto", plan, solved), ("n", "given", given, solve_blocks(network, given))])
    assert list(rows.columns) == COLUMNS
    assert rows["job"].tolist() == [job.label for job in plan.jobs]
    assert plan.prediction is not None
    assert rows["predicted_seconds"].tolist() == [job.seconds for job in plan.prediction.jobs]
    assert rows["seconds"].sum() == pytest.approx(math.fsum(s.seconds for s in solved))
    assert (rows["peak_mb"] > 0).all()


def test_what_failed_or_was_cut_short_counts_for_no_factor() -> None:
    network = net()
    plan = automatic(network)
    whole, *others = solve_blocks(network, plan)
    late = replace(whole, reason="cut short")
    dead = replace(whole, rho=None, status=Status.TIME_LIMIT, reason="killed")
    for first, status in ((late, "ok"), (dead, "time_limit")):
        rows = collect([("n", "auto", plan, [first, *others])])
        assert rows["status"].tolist()[0] == status
        assert rows["cut_short"].tolist() == [True, *[False] * (len(rows) - 1)]
        assert len(with_factors(rows)) == len(rows) - 1


def test_a_prediction_is_as_far_off_below_as_above() -> None:
    median, most, worst = spread(pd.Series([0.25, 1.0, 4.0]))
    assert (median, worst) == (1.0, 4.0)
    assert most == 4.0
    assert spread(pd.Series([0.5] * 9 + [8.0]))[2] == 8.0


def test_the_table_counts_what_limits_ended_and_judges_the_rest() -> None:
    made = table.make(measurements.predictions())
    last = made.iloc[-1]
    assert (last["Solver"], last["Programs"], last["Cut short"]) == ("all", "12", "1")
    assert float(last["Seconds, all"]) < 2


JOINT = """
from certlip.base.limits import Limits
from certlip.partition.calibration import job_memory_mb
from certlip.partition.plan import Plan
from certlip.partition.segment import make_segment
from certlip.solving.blocks import solve_blocks
from certlip.solving.calibrate import Case, _network

network = _network(Case(3, 6, 24))
segment = make_segment(network, 0, len(network.layers), (2, 2), "folded")
plan = Plan(segments=(segment,), merge="folded", fallback=False)
(job,) = plan.jobs
solved = solve_blocks(network, plan, limit=Limits(1, 120.0, 4000.0))
print(job_memory_mb(plan, job), solved[0].peak_mb)
"""


def test_the_memory_of_a_joint_program_is_predicted_by_its_weights() -> None:
    """Five million entries, in a process that holds nothing else."""
    done = subprocess.run([sys.executable, "-c", JOINT], capture_output=True, text=True, check=True)
    predicted, peak = map(float, done.stdout.split())
    assert peak <= predicted <= 2 * peak
