"""Benchmarks are a target of their own, and the schedule one that is made from the jobs of a finished run."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from workspace import Outcome, Workspace, copy_workspace

from certlip.base.timing import load_timings
from certlip.collect import read_rows

SCHEDULE = {"simulate_schedule", "write_table schedule", "draw_figure schedule"}


@pytest.fixture(scope="module")
def scheduled(finished: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A copy of the finished run, with its benchmarks. Tests must leave it as it is."""
    workspace = copy_workspace(finished, tmp_path_factory.mktemp("scheduled") / "copy")
    outcome = workspace.snakemake(targets=["benchmarks"])
    assert outcome.returncode == 0, outcome.text
    assert outcome.jobs == SCHEDULE
    return workspace


def test_every_job_of_the_run_is_scheduled_once(first_run: tuple[Workspace, Outcome], scheduled: Workspace) -> None:
    rows = read_rows(scheduled.folder / "results/benchmarks/schedule.csv")
    assert set(rows[rows["part"] == "run"]["job"]) == {f"all {len(first_run[1].jobs)}"}
    timings = {timing.job: timing for timing in load_timings(scheduled.folder / "logs")}
    assert timings.keys() == first_run[1].jobs | SCHEDULE
    assert all(timing.cpu_seconds > 0 and timing.seconds > 0.05 for timing in timings.values())
    jobs = [timings[job] for job in first_run[1].jobs]
    assert rows["seconds"].iloc[0] >= sum(timing.seconds for timing in jobs)
    assert len({timing.head for timing in jobs}) == 1
    assert 0 < rows["head_seconds"].iloc[0] < 0.2 * len(jobs)


def test_the_longest_chain_leads_through_files_from_a_first_job_to_a_last_one(scheduled: Workspace) -> None:
    rows = read_rows(scheduled.folder / "results/benchmarks/schedule.csv")
    timings = {timing.job: timing for timing in load_timings(scheduled.folder / "logs")}
    chain = [timings[job] for job in rows[rows["part"] == "chain"]["job"]]
    assert not chain[0].inputs
    assert chain[-1].rule in ("write_table", "draw_figure")
    for before, after in itertools.pairwise(chain):
        assert {*before.outputs} & {*after.inputs}
    assert "check_bounds" in [timing.rule for timing in chain]


def test_a_second_time_nothing_is_to_be_done(scheduled: Workspace) -> None:
    assert scheduled.dry_run(targets=["all", "benchmarks"]) == set()


def test_a_report_of_both_targets_has_both(scheduled: Workspace, tmp_path: Path) -> None:
    outcome = scheduled.snakemake("--report", str(tmp_path / "report.html"), targets=["all", "benchmarks"])
    assert outcome.returncode == 0, outcome.text
    report = (tmp_path / "report.html").read_text()
    for shown in ("tables/bounds.html", "tables/schedule.html", "figures/schedule.svg"):
        assert f"results/{shown}" in report


def test_a_job_that_was_not_written_down_is_named_and_made_again_or_left_out(copy_of_finished: Workspace) -> None:
    workspace = copy_of_finished
    workspace.restrict(["block"], {"gram": None})
    without = copy_workspace(workspace, workspace.folder.with_name("without"))
    workspace.edit(lambda config: config.update(tables=["schedule"]))
    (workspace.folder / "logs/bound_network/block/gram.log.json").unlink()
    outcome = workspace.snakemake(targets=["benchmarks"])
    assert outcome.returncode != 0
    assert "certlip: simulate_schedule: logs/ does not say" in outcome.text
    assert "results/bounds/block/gram.json" in outcome.text
    assert "make them again (snakemake --forceall), or leave schedule out of tables and figures" in outcome.text
    assert "Traceback" not in outcome.text
    assert without.dry_run(targets=["benchmarks"]) == set()
    outcome = workspace.snakemake("--forceall", targets=["all", "benchmarks"])
    assert outcome.returncode == 0, outcome.text
    assert (workspace.folder / "results/tables/schedule.csv").exists()


def test_a_benchmark_needs_no_bound_and_the_comparison_no_benchmark(workspace: Workspace) -> None:
    options = {"shapes": [], "networks": ["block"]}
    change = {"benchmarks": {"layer_norms": options}, "tables": ["bounds", "layer_norms"], "figures": ["layer_norms"]}
    workspace.edit(lambda config: config.update(change))
    assert workspace.dry_run(targets=["benchmarks"]) == {
        *("seed_network block", "measure_benchmark layer_norms"),
        *("write_table layer_norms", "draw_figure layer_norms"),
    }
    jobs = workspace.dry_run()
    assert "write_table bounds" in jobs
    assert not {job for job in jobs if "layer_norms" in job}
