"""One checkout and one finished run, shared by all tests of the workflow."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from workspace import HERE, REPOSITORY, Outcome, Workspace, copy_checkout, copy_workspace


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as it is when the tests begin."""
    return copy_checkout(REPOSITORY, tmp_path_factory.mktemp("checkout") / "certlip")


@pytest.fixture
def workspace(tmp_path: Path, checkout: Path) -> Workspace:
    """An empty workspace: the configuration and nothing else."""
    shutil.copytree(HERE / "config", tmp_path / "config")
    return Workspace(tmp_path, checkout)


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> tuple[Workspace, Outcome]:
    """A workspace where the whole configuration was run, and how that ended, told at length. Tests must leave it as it
    is."""
    folder = tmp_path_factory.mktemp("finished")
    shutil.copytree(HERE / "config", folder / "config")
    workspace = Workspace(folder, checkout)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CERTLIP_TESTS_IMPORTS", str(folder / "imports"))
        return workspace, workspace.snakemake("--verbose")


@pytest.fixture(scope="session")
def finished(first_run: tuple[Workspace, Outcome]) -> Workspace:
    """The workspace of the finished run. Tests must leave it as it is."""
    workspace, outcome = first_run
    assert outcome.returncode == 0, outcome.text
    return workspace


@pytest.fixture
def copy_of_finished(finished: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the finished workspace to change."""
    return copy_workspace(finished, tmp_path / "copy")
