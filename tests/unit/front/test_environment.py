"""environment.yml against the pins of constraints.txt and the dependencies of pyproject.toml; no conda is needed."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import rattler
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[3]

CONDA_NAMES = {"pytorch": "torch", "matplotlib-base": "matplotlib", "snakemake-minimal": "snakemake"}
"""conda-forge's name of a package -> its name on PyPI, where they differ."""

DEPENDENCIES = yaml.safe_load((REPOSITORY / "environment.yml").read_text())["dependencies"]
SPECS = [entry for entry in DEPENDENCIES if isinstance(entry, str)]
PIP = [line for entry in DEPENDENCIES if isinstance(entry, dict) for line in entry["pip"]]


def constraints() -> dict[str, str]:
    """Name -> version of every line of constraints.txt."""
    lines = (REPOSITORY / "constraints.txt").read_text().splitlines()
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def pins() -> dict[str, str]:
    """Name on PyPI -> version of all that environment.yml pins."""
    conda = [re.fullmatch(r"([\w.-]+)=([\w.]+)", spec) for spec in SPECS]
    found = {CONDA_NAMES.get(m[1], m[1]): m[2] for m in conda if m}
    return found | {name: version for name, _, version in (line.partition("==") for line in PIP) if version}


@pytest.mark.parametrize("spec", SPECS)
def test_every_line_is_a_spec_that_conda_reads(spec: str) -> None:
    rattler.MatchSpec(spec, strict=True)


def test_every_package_is_pinned_to_the_version_of_the_constraints() -> None:
    unpinned = {"python", "pip"}
    assert len(pins()) + len(unpinned) == len(SPECS) + len(PIP)
    assert not [line for line in PIP if line.startswith("-")]  # a path means another folder under --sdm conda
    known = constraints()
    assert pins() == {name: known[canonicalize_name(name)] for name in pins()}


def test_every_dependency_of_the_package_is_there() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    required = [Requirement(line) for line in project["dependencies"]]
    versions = pins()
    assert {canonicalize_name(r.name) for r in required} == set(map(canonicalize_name, versions))
    for requirement in required:
        assert requirement.specifier.contains(versions[requirement.name]), requirement
    (python,) = [rattler.MatchSpec(spec, strict=True) for spec in SPECS if spec.startswith("python>")]
    assert str(python.version) == project["requires-python"]


def test_the_requirements_are_all_constrained() -> None:
    lines = (REPOSITORY / "requirements.txt").read_text().splitlines()
    named = [line for line in lines if line and not line.startswith("#")]
    assert {canonicalize_name(name) for name in named} <= set(constraints())


def test_packages_come_from_conda_forge_first() -> None:
    channels = yaml.safe_load((REPOSITORY / "environment.yml").read_text())["channels"]
    assert channels[0] == "conda-forge"
    assert "defaults" not in channels
