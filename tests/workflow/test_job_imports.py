"""What each job imports that takes long to import: start-up is most of what a small job takes."""

from __future__ import annotations

import json

from imports import heavy
from workspace import Outcome, Workspace

PANDAS = {"pandas", "pyarrow"}
SCIPY = {"scipy.linalg", "scipy.sparse", "scipy.special"}
NEEDED = {
    "fetch_dataset": None,  # scikit-learn, which holds the digits, imports nearly all there is
    "train_network": {"torch"},
    "export_network": {"torch"},
    "seed_network": {"torch"},
    "plan_blocks": set(),
    "solve_plan": SCIPY,
    "bound_network": set(),  # a process of its own does the work
    "collect_bounds": {*PANDAS, "torch"},  # of the zoo, for the constants that are known
    "check_bounds": {*PANDAS, "torch"},
    "write_table": PANDAS,
    "draw_figure": {*PANDAS, "matplotlib"},
}


def test_no_job_imports_what_it_does_not_need(first_run: tuple[Workspace, Outcome]) -> None:
    workspace, outcome = first_run
    found = {path.name: set(heavy(json.loads(path.read_text()))) for path in (workspace.folder / "imports").iterdir()}
    assert found.keys() == outcome.jobs
    for job, modules in found.items():
        needed = NEEDED[job.partition(" ")[0]]
        assert needed is None or modules <= needed, job
