"""Two runs of a configuration agree, whatever else the machine does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from workspace import REPOSITORY, Workspace

from certlip.base.record import Kind
from certlip.collect import read

TOLERANCE = 1e-3


@pytest.mark.nightly
def test_no_certified_value_of_the_quick_configuration_depends_on_the_load(tmp_path: Path) -> None:
    """The second run has a busy neighbour on every core; rows that a limit cut short say so."""
    runs = []
    for n_neighbours in (0, 2):
        folder = tmp_path / str(n_neighbours)
        folder.mkdir()
        workspace = Workspace(folder, REPOSITORY, str(REPOSITORY / "config" / "quick.yaml"))
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n_neighbours)]
        try:
            outcome = workspace.snakemake(targets=["results/checks/soundness.json"])
        finally:
            for neighbour in busy:
                neighbour.kill()
                neighbour.wait()
        assert outcome.returncode == 0, outcome.text
        rows = read(folder / "results" / "bounds.csv")
        runs.append(rows[rows["kind"] == Kind.CERTIFIED].set_index(["network", "method"]))
    first, second = runs
    assert list(first.index) == list(second.index)
    cut_short = first["reason"].str.contains("limit") | second["reason"].str.contains("limit")
    apart = (first["value"] / second["value"] - 1).abs()
    assert (apart[~cut_short] <= TOLERANCE).all(), apart[apart > TOLERANCE]
