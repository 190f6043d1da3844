"""An automatic plan in the workflow: the machine is calibrated once, and the cluster is asked for what is predicted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from workspace import Workspace, copy_checkout

from certlip.base.record import Record
from certlip.collect import read_rows
from certlip.partition.plan import Plan

SMALLER = {
    r"(?m)^ALONE = .*$": "ALONE = (Case(2, 1, 10), Case(2, 2, 12, 3))",
    r"(?ms)^JOINT = \(.*?^\)$": "JOINT = (Case(2, 1, 10, 0, 2), Case(3, 2, 12, 0, 2))",
    r"(?m)^REPEATED_SECONDS = .*$": "REPEATED_SECONDS = 0.1",
}
"""A calibration of a second in place of a minute."""


@pytest.fixture
def calibrated(workspace: Workspace, tmp_path: Path) -> Workspace:
    """A workspace whose checkout calibrates by few small programs."""
    checkout = copy_checkout(workspace.checkout, tmp_path / "checkout")
    source = checkout / "src/certlip/solving/calibrate.py"
    text = source.read_text()
    for old, new in SMALLER.items():
        text, n_replaced = re.subn(old, new, text)
        assert n_replaced == 1, old
    source.write_text(text)
    return Workspace(workspace.folder, checkout)


def test_an_automatic_plan_calibrates_the_machine_once_and_counts_it(calibrated: Workspace) -> None:
    workspace = calibrated
    auto = {"method": "dcp", "grid": "auto", "cuts": "auto", "budget": 100}
    workspace.restrict(["block"], {"dcp-auto": auto, "dcp-folded": {**auto, "merge": "folded"}})
    outcome = workspace.snakemake(targets=["results/checks/soundness.json", "results/predictions.csv"])
    assert outcome.returncode == 0, outcome.text
    assert [job for job in outcome.jobs if job.startswith("calibrate_solver")] == ["calibrate_solver auto"]
    results = workspace.folder / "results"
    calibration = json.loads((results / "calibration" / "auto.json").read_text())
    plan = Plan.load(results / "plans" / "block" / "dcp-auto.json")
    assert plan.prediction is not None
    assert plan.prediction.seconds <= 100
    assert plan.prediction.n_max == calibration["n_max"]
    record = Record.load(results / "bounds" / "block" / "dcp-auto.json")
    assert record.calibration_seconds == calibration["seconds"]
    predicted = read_rows(results / "predictions.csv")
    assert set(predicted["method"]) == {"dcp-auto", "dcp-folded"}
    of_plan = predicted[predicted["method"] == "dcp-auto"]
    assert of_plan["predicted_seconds"].tolist() == [job.seconds for job in plan.prediction.jobs]
    assert (predicted["seconds"] > 0).all()
    again = workspace.snakemake("--dry-run", "--forcerun", "solve_plan")
    jobs = re.findall(r"rule solve_plan:\n((?: {4}.*\n)+)", again.text)
    # four times (a second or less and a half to end it) and two minutes of start; the limits would ask for four minutes
    assert len(jobs) == 2
    assert all("runtime=3," in job for job in jobs)
    assert workspace.dry_run("--set-threads", "solve_plan=1") == set()
