"""Whatever a message of certlip advises was tried: each sentence of advice in the source is in a test that follows it.

The tests of this folder called test_advice_... follow what can be followed by a call. The others are named here, each
with the test that follows it.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [
    *(path for path in sorted((ROOT / "src/certlip").rglob("*.py")) if path.parent.name not in ("tables", "figures")),
    *sorted((ROOT / "workflow").rglob("*.py")),
    *sorted((ROOT / "workflow").rglob("*.smk")),
]

ADVICE = re.compile(
    "(?:^|[;:] |, and |, or |, then )(?:do not|did you|train or|add|bind|bound|call|check|choose|convert|copy|delete"
    "|divide|export|fetch|give|have|install|leave|load|look|lower|make|name|pass|plan|put|raise|read|remove|rename"
    "|repair|replace|rescale|run|save|scale|set|use|write) "
)
"""A clause that begins with what somebody should do."""

ELSEWHERE = {
    "tests/workflow/test_dag.py::test_a_file_that_was_deleted_is_made_again": ["{}; delete it and run again"],
    "tests/workflow/test_faults.py::test_a_full_disk_is_one_sentence_and_the_run_goes_on_once_there_is_room": [
        "make room there and run again",
    ],
    "tests/workflow/test_faults.py::test_a_read_only_folder_of_results_is_one_sentence_and_a_copy_of_it_is_run": [
        "run in a copy of this folder",
    ],
    "tests/workflow/test_kill.py::test_a_killed_solve_is_a_block_with_a_reason_and_the_run_goes_on": [
        "give it more memory or fewer neighbours, and have it tried again by: certlip retry --limit-rows",
    ],
    "tests/workflow/test_waiting_rows.py::test_rows_wait_for_their_files_and_only_they_are_made_when_a_file_comes": [
        "put the file into {} by hand",
    ],
    "tests/workflow/test_accuracy.py::test_images_that_come_are_attacked_and_certified": [
        "{} is not there; put it there by hand",
    ],
    "tests/unit/datasets/test_datasets.py::test_mnist_of_a_mirror_is_downloaded_verified_and_read": [
        "or use the data set 'digits', which needs no download",
    ],
    "tests/workflow/test_run_schedule.py::test_a_job_that_was_not_written_down_is_named_and_made_again_or_left_out": [
        "make them again (snakemake --forceall), or leave schedule out of tables and figures",
    ],
    "tests/workflow/test_slurm.py::test_without_accounting_a_run_says_what_to_set_instead_of_waiting_for_ever": [
        "fails here (",
    ],
    "tests/unit/front/test_retry.py::test_rows_are_chosen_by_name_and_by_the_limit_they_hit": [
        "name the rows to be made again, as NETWORK, METHOD or NETWORK/METHOD, or give --limit-rows",
    ],
}
"""Test -> parts of the sentences whose advice it follows."""

PAGES = {
    "README.md": {
        "`certlip retry --limit-rows`": (
            "tests/unit/front/test_retry.py::test_the_command_says_which_rows_are_made_again"
        ),
        "give the command once with `--unlock`": (
            "tests/workflow/test_kill.py::test_a_killed_head_process_is_resumed_after_an_unlock"
        ),
        "slurm-status-command: squeue": (
            "tests/workflow/test_slurm.py::test_the_bounds_from_slurm_are_those_of_one_machine"
        ),
        "is missing is made again": "tests/workflow/test_dag.py::test_a_file_that_was_deleted_is_made_again",
        "`parts: 4` in a method's entry": "tests/workflow/test_run.py::test_a_scattered_plan_gives_the_same_bound",
        "snakemake --cores 8 --configfile config/quick.yaml -- verify": (
            "tests/workflow/test_verify.py::test_verify_proves_someone_elses_folder_and_makes_nothing_again"
        ),
        "src/certlip/methods/frobenius.py": (
            "tests/contract/test_readme.py::test_the_baseline_of_the_readme_runs_as_it_stands"
        ),
    },
}
"""Page -> what it tells a reader to do, and the test that does it."""


@cache
def sentences() -> set[str]:
    """All of the source that advise something, with {} for what is filled in."""
    found = {text for path in SOURCES for text in _texts(path)}
    return {text for text in found if ADVICE.search(text)}


def _texts(path: Path) -> Iterator[str]:
    """The texts in a file, docstrings left out."""
    if path.suffix == ".smk":
        yield from re.findall(r'"([^"\n]+)"', path.read_text())
        return
    tree = ast.parse(path.read_text())
    told = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(v.value) if isinstance(v, ast.Constant) else "{}" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and not {id(node)} & (told | parts):
            yield node.value


def followed() -> dict[str, str]:
    """Parts of sentences -> where they are followed."""
    here = {part: test for test, parts in ELSEWHERE.items() for part in parts}
    for path in sorted(Path(__file__).parent.glob("test_advice_*.py")):
        here |= {text: path.name for text in _texts(path) if ADVICE.search(text)}
    return here


def sentences_with(part: str) -> set[str]:
    """Those that a part is of; a whole sentence is of itself alone, though a longer one may hold its words."""
    return {part} if part in sentences() else {sentence for sentence in sentences() if part in sentence}


def test_every_sentence_of_advice_is_followed_somewhere() -> None:
    assert not sentences() - {sentence for part in followed() for sentence in sentences_with(part)}


def test_what_is_followed_is_advised_in_one_sentence() -> None:
    for part in followed():
        assert len(sentences_with(part)) == 1, part


def test_the_tests_that_follow_advice_elsewhere_are_there() -> None:
    for test in [*ELSEWHERE, *(test for page in PAGES.values() for test in page.values())]:
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text(), test


@pytest.mark.parametrize("page", PAGES)
def test_what_is_followed_of_a_page_stands_there(page: str) -> None:
    text = " ".join((ROOT / page).read_text().split())
    for advice in PAGES[page]:
        assert advice in text, advice
