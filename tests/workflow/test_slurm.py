"""The workflow on a real SLURM: the profile as it is shipped, the same bounds as on one machine."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from slurm.cluster import Cluster, why_not
from workspace import REPOSITORY, Workspace

from certlip.base.record import Record

METHODS = {"product": None, "dcp-cover": {"method": "dcp", "grid": [2, 2], "merge": "cover", "parts": 3}}

# This cluster has no accounting, two processors, and jobs of seconds.
BARE = ["--slurm-status-command", "squeue", "--latency-wait", "5"]
SMALL = ["--set-threads", "solve_plan=2", "solve_blocks=2", "check_bounds=2"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A running cluster; all of it is stopped in the end."""
    if reason := why_not():
        pytest.skip(reason)
    folder = Path(tempfile.mkdtemp(prefix="slurm"))
    started = Cluster(folder)
    try:
        started.start()
        yield started
    finally:
        started.stop()
        shutil.rmtree(folder)


def test_the_bounds_from_slurm_are_those_of_one_machine(
    cluster: Cluster, finished: Workspace, workspace: Workspace
) -> None:
    """With fewer jobs at a time than parts of the plan."""
    workspace.restrict(["block"], METHODS)
    outcome = workspace.snakemake(*BARE, *SMALL, "--jobs", "2", profile="slurm", timeout=600)
    assert outcome.returncode == 0, outcome.text
    for method in METHODS:
        path = f"results/bounds/block/{method}.json"
        mine, theirs = Record.load(workspace.folder / path), Record.load(finished.folder / path)
        assert (mine.status, mine.value) == ("ok", theirs.value)
    jobs = [line.split() for line in cluster.answer("squeue", "-h", "-t", "all", "-o", "%T %m").splitlines()]
    assert len(jobs) == 7  # a network, a bound, three parts, their merge, and the check of all
    assert {state for state, _ in jobs} == {"COMPLETED"}
    # two parts ask for the memory of the one program that each has
    assert [memory for _, memory in jobs].count("2500M") >= 2


def test_without_accounting_a_run_says_what_to_set_instead_of_waiting_for_ever(
    cluster: Cluster, workspace: Workspace
) -> None:
    workspace.restrict(["block"], {"product": None})
    outcome = workspace.snakemake(*SMALL, profile="slurm", timeout=120)
    assert outcome.returncode != 0
    assert "slurm-status-command: squeue" in outcome.text
    assert "Traceback" not in outcome.text


def answers(workspace: Workspace) -> dict[str, tuple[str, float | None]]:
    """Status and value of each record."""
    folder = workspace.folder / "results" / "bounds"
    records = {str(path.relative_to(folder)): Record.load(path) for path in sorted(folder.glob("*/*.json"))}
    return {name: (record.status, record.value) for name, record in records.items()}


@pytest.mark.nightly
def test_the_whole_quick_configuration_gives_the_same_bounds_on_slurm(
    cluster: Cluster, checkout: Path, tmp_path: Path
) -> None:
    """Every network and method of config/quick.yaml."""
    quick = yaml.safe_load((REPOSITORY / "config" / "quick.yaml").read_text())
    runs = {}
    for name, profile, arguments in (("local", "default", []), ("slurm", "slurm", [*BARE, *SMALL])):
        shutil.copytree(REPOSITORY / "config", tmp_path / name / "config")
        runs[name] = Workspace(tmp_path / name, checkout, "config/quick.yaml")
        outcome = runs[name].snakemake(*arguments, profile=profile)
        assert outcome.returncode == 0, outcome.text
    found = answers(runs["slurm"])
    assert len(found) == len(quick["networks"]) * len(quick["methods"])
    assert found == answers(runs["local"])


GREEDY = """
import time
import numpy as np
from certlip.methods import MethodInfo
from certlip.methods.product import bound as product
from certlip.base.record import Kind

INFO = MethodInfo(title="greedy", kind=Kind.CERTIFIED, reference="none")

def bound(network, *, megabytes: int = 0, wait_seconds: float = 0.0):
    held = np.ones(megabytes * 2**17)
    time.sleep(wait_seconds)
    return product(network)
"""


@pytest.mark.nightly
def test_a_job_out_of_memory_or_time_is_sent_again_and_asks_for_more(
    cluster: Cluster, finished: Workspace, workspace: Workspace
) -> None:
    """1300 MB and a minute are too little for each of the two, twice as much is enough."""
    (workspace.folder / "greedy.py").write_text(GREEDY)
    methods = {
        "large": {"module": "greedy", "megabytes": 1500, "wait_seconds": 10.0},
        "slow": {"module": "greedy", "wait_seconds": 80.0},
    }
    workspace.restrict(["block"], methods)
    workspace.edit(lambda config: config["limits"].update(max_seconds=200))
    asked = ["--set-resources", "bound_network:mem_mb=1300*attempt", "bound_network:runtime=attempt"]
    before = set(cluster.answer("squeue", "-h", "-t", "all", "-o", "%i").split())
    outcome = workspace.snakemake(*BARE, *SMALL, *asked, profile="slurm")
    assert outcome.returncode == 0, outcome.text
    for method in methods:
        path = workspace.folder / f"results/bounds/block/{method}.json"
        product = finished.folder / "results/bounds/block/product.json"
        assert Record.load(path).value == Record.load(product).value
    jobs = dict(line.split() for line in cluster.answer("squeue", "-h", "-t", "all", "-o", "%i %T").splitlines())
    ended = sorted(state for job, state in jobs.items() if job not in before)
    assert ended.count("TIMEOUT") == 1, ended
    assert sum(state in ("FAILED", "OUT_OF_MEMORY", "CANCELLED") for state in ended) == 1, ended
