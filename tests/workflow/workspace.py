"""Running the workflow as a user does: snakemake in a directory of its own, on the small configuration in config/."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]

NETWORKS = ["digits", "block", "square"]
PLANNED = ["lipsdp", "dcp-sum", "dcp-cover"]
BOUND = ["lower", "product", "autolip", "gram"]
TABLES = ["bounds", "bounds_wide", "width_sweep"]
FIGURES = ["tightness", "time_vs_bound", "width_sweep"]

COMPARE = {
    "collect_bounds",
    "check_bounds",
    *(f"write_table {table}" for table in TABLES),
    *(f"draw_figure {figure}" for figure in FIGURES),
}
"""The jobs that follow every change of a bound."""


@dataclass(frozen=True)
class Outcome:
    """How snakemake ended; text: all that the user saw."""

    returncode: int
    text: str

    @property
    def jobs(self) -> set[str]:
        """The jobs it started, or would have: rule and wildcards, ``solve_blocks block lipsdp 1-of-1``."""
        blocks = re.findall(r"^(?:local)?rule (\w+):\n((?: {4}.*\n)+)", self.text, flags=re.MULTILINE)
        return {" ".join([rule, *_wildcards(body)]) for rule, body in blocks} - {"all", "benchmarks"}


def _wildcards(body: str) -> list[str]:
    line = re.search(r"^ {4}wildcards: (.*)$", body, flags=re.MULTILINE)
    return [pair.partition("=")[2] for pair in line[1].split(", ")] if line else []


@dataclass(frozen=True)
class Workspace:
    """A directory to run the workflow in, with config/ inside; checkout: of the workflow and the package that run."""

    folder: Path
    checkout: Path
    configfile: str = "config/tiny.yaml"

    def command(self, *arguments: str, targets: Sequence[str] = (), profile: str = "default") -> list[str]:
        """The snakemake command line."""
        run = [sys.executable, "-m", "snakemake", "--snakefile", str(self.checkout / "Snakefile")]
        run += ["--workflow-profile", str(self.checkout / "workflow" / "profiles" / profile)]
        run += ["--cores", "2"] if profile == "default" else []
        return [*run, "--configfile", self.configfile, *arguments, "--", *targets]

    @property
    def variables(self) -> dict[str, str]:
        """Environment variables of the run."""
        return {
            **os.environ,
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
            "PYTHONPATH": os.pathsep.join([str(self.checkout / "src"), str(HERE), str(self.folder)]),
            "OMP_NUM_THREADS": "1",
            "XDG_CACHE_HOME": str(self.folder / ".xdg"),
        }

    def snakemake(
        self, *arguments: str, targets: Sequence[str] = (), profile: str = "default", timeout: float = 3600
    ) -> Outcome:
        """Run snakemake to its end, or to an error after so many seconds."""
        done = subprocess.run(
            self.command(*arguments, targets=targets, profile=profile),
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Outcome(done.returncode, done.stdout)

    def dry_run(self, *arguments: str, targets: Sequence[str] = ()) -> set[str]:
        """The jobs that snakemake would start."""
        outcome = self.snakemake("--dry-run", *arguments, targets=targets)
        assert outcome.returncode == 0, outcome.text
        return outcome.jobs

    def edit(self, change: Callable[[dict[str, Any]], Any], file: str = "tiny.yaml") -> None:
        """Change a file of config/ in place; `change` is given its content."""
        path = self.folder / "config" / file
        content = yaml.safe_load(path.read_text())
        change(content)
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def restrict(self, networks: list[str], methods: dict[str, dict[str, Any] | None]) -> None:
        """Keep only these networks and methods, and no tables or figures."""
        self.edit(lambda config: config.update(networks=networks, methods=methods, tables=[], figures=[]))


def copy_workspace(workspace: Workspace, folder: Path) -> Workspace:
    """A copy of a workspace to change."""
    shutil.copytree(workspace.folder, folder)
    return Workspace(folder, workspace.checkout)


def copy_checkout(source: Path, folder: Path) -> Path:
    """A copy of all that a run needs of the repository: edits of either do not reach the other."""
    for part in ("Snakefile", "environment.yml"):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source / part, folder)
    for part in ("workflow", "src/certlip"):
        shutil.copytree(source / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    return folder
