"""What every rule declares: a log, an environment, and a fingerprint of the code that its script runs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from workspace import REPOSITORY

from certlip.base import provenance

RULES = {
    name: body
    for file in sorted((REPOSITORY / "workflow" / "rules").glob("*.smk"))
    for name, body in re.findall(r"^rule (\w+):\n((?: {4}.*\n|\n)+)", file.read_text(), flags=re.MULTILINE)
}

PLUMBING = {("certlip.workflow", name) for name in ("job", "settings_of", "limits_of")}
"""What scripts may import unnamed: the log, the wording of errors, limits and folders, none of which is a result's."""


def directive(body: str, name: str) -> str:
    found = re.search(rf"^ {{4}}{name}:(.*\n(?: {{8}}.*\n)*)", body, flags=re.MULTILINE)
    return found[1].strip() if found else ""


def imports(script: Path) -> set[str]:
    """Modules of certlip that a script imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "certlip":
            named = {a.name for a in node.names if (node.module, a.name) not in PLUMBING}
            submodules = {f"{node.module}.{name}" for name in named}
            found |= {m for m in submodules if provenance._source(m) is not None}
            if node.module != "certlip" and named:
                found.add(str(node.module))
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "certlip"}
    return found


def test_there_is_a_script_for_each_rule_and_a_rule_for_each_script() -> None:
    scripts = {path.stem for path in (REPOSITORY / "workflow" / "scripts").glob("*.py")}
    assert scripts == {name for name, body in RULES.items() if directive(body, "script")}
    for name, body in RULES.items():
        assert directive(body, "script") == f'"../scripts/{name}.py"'


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_has_a_log_and_an_environment(rule: str) -> None:
    assert directive(RULES[rule], "log").startswith(f'"logs/{rule}')
    assert directive(RULES[rule], "conda") == '"../../environment.yml"'


@pytest.mark.parametrize(
    "script", sorted((REPOSITORY / "workflow" / "scripts").glob("*.py")), ids=lambda path: path.stem
)
def test_nothing_follows_the_job_in_a_script_whose_process_then_ends(script: Path) -> None:
    last = ast.parse(script.read_text()).body[-1]
    assert isinstance(last, ast.With)
    assert ast.unparse(last.items[0]) == "job(snakemake)"


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_runs_again_when_the_code_its_script_imports_changes(rule: str) -> None:
    call = re.search(r"code=.*?code_of\((.*?)\),?\n {4}\w", RULES[rule], flags=re.DOTALL)
    assert call, f"{rule} has no params: code=code_of(...)"
    assert f'"{rule}"' in call[1]
    named = tuple(re.findall(r'(?<!f)"(certlip[\w.]*)"', call[1]))
    if "made_by(" in call[1]:  # one of them, by the method
        named += ("certlip.solving.evaluate", "certlip.solving.portfolio")
    covered = set(provenance._closure(named))
    # what config.py reads stands in the rule's params, which snakemake compares itself
    missing = imports(REPOSITORY / "workflow" / "scripts" / f"{rule}.py") - covered - {"certlip.config"}
    assert not missing, f"{rule}: name {sorted(missing)} in its fingerprint"
