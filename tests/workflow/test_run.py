"""One finished run of every kind of network and method: all rows, tables, figures and proofs are there."""

from __future__ import annotations

import os
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from workspace import BOUND, FIGURES, NETWORKS, PLANNED, TABLES, Outcome, Workspace

from certlip import collect, verify
from certlip.base.record import Record
from certlip.solving.solved_files import load_solved


def everything(folder: Path) -> dict[str, int]:
    """Each file of results/ with the time it was written, in ns."""
    return {str(path): os.stat(path).st_mtime_ns for path in (folder / "results").rglob("*") if path.is_file()}


def test_the_comparison_has_a_row_for_every_network_and_method(finished: Workspace) -> None:
    bounds = collect.read(finished.folder / "results" / "bounds.csv")
    expected = [(n, m) for n in NETWORKS for m in [*BOUND, *PLANNED]]
    assert sorted(zip(bounds["network"], bounds["method"], strict=True)) == sorted(expected)
    failed = bounds[bounds["status"] != "ok"]
    assert set(failed["network"]) == {"square"}
    assert (failed["reason"].str.len() > 0).all()
    assert failed["value"].isna().all()
    assert bounds[bounds["status"] == "ok"]["value"].notna().all()


def test_no_certified_row_lies_below_the_best_lower_row(finished: Workspace) -> None:
    bounds = collect.read(finished.folder / "results" / "bounds.csv")
    certified = bounds[(bounds["kind"] == "certified") & (bounds["status"] == "ok")]
    assert len(certified) == 2 * 5
    assert (certified["value"] >= certified["best_lower"]).all()


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_written_in_every_format(finished: Workspace, table: str) -> None:
    for suffix in ("csv", "html", "md", "tex"):
        text = (finished.folder / "results" / "tables" / f"{table}.{suffix}").read_text()
        assert "block" in text or table == "width_sweep"
        assert len(text.splitlines()) >= 2


@pytest.mark.parametrize("figure", FIGURES)
def test_every_figure_is_drawn_in_every_format(finished: Workspace, figure: str) -> None:
    folder = finished.folder / "results" / "figures"
    assert (folder / f"{figure}.pdf").read_bytes().startswith(b"%PDF")
    assert (folder / f"{figure}.png").read_bytes().startswith(b"\x89PNG")
    assert ElementTree.parse(folder / f"{figure}.svg").getroot().tag.endswith("svg")


@pytest.mark.parametrize("network", ["digits", "block"])
def test_every_value_that_claims_a_proof_has_one_that_holds(finished: Workspace, network: str) -> None:
    for method in [*BOUND, *PLANNED]:
        record = Record.load(finished.folder / "results" / "bounds" / network / f"{method}.json")
        if record.kind == "estimate":
            assert record.certificate_file is None
        else:
            assert record.certificate_file is not None
            verification = verify(finished.folder / record.certificate_file)
            assert verification, f"{method}: {verification.reason}"
            assert verification.value == record.value


def test_every_file_of_solved_blocks_holds(finished: Workspace) -> None:
    files = sorted((finished.folder / "results" / "blocks").glob("*/*/*.npz"))
    assert len(files) == len(NETWORKS) * len(PLANNED)
    for path in files:
        verification = verify(path)
        assert verification or "no block" in verification.reason, (path, verification.reason)


def test_the_border_patches_of_a_padded_block_are_solved_each(finished: Workspace) -> None:
    record = Record.load(finished.folder / "results" / "bounds" / "block" / "dcp-sum.json")
    assert (record.n_sdps, record.n_distinct_sdps) == (4, 4)


def test_every_job_keeps_a_log(first_run: tuple[Workspace, Outcome]) -> None:
    workspace, outcome = first_run
    logs = {
        " ".join(path.relative_to(workspace.folder / "logs").with_suffix("").parts)
        for path in (workspace.folder / "logs").rglob("*.log")
    }
    assert logs == outcome.jobs


def test_a_second_run_does_nothing(finished: Workspace) -> None:
    before = everything(finished.folder)
    outcome = finished.snakemake()
    assert outcome.returncode == 0
    assert "Nothing to be done" in outcome.text
    assert everything(finished.folder) == before


def test_a_scattered_plan_gives_the_same_bound(finished: Workspace, copy_of_finished: Workspace) -> None:
    targets = [f"results/bounds/{network}/dcp-cover.json" for network in ("block", "digits")]
    copy_of_finished.edit(lambda config: config["methods"]["dcp-cover"].update(parts=3))
    outcome = copy_of_finished.snakemake(targets=targets)
    assert outcome.returncode == 0, outcome.text
    items = {f"solve_blocks {n} dcp-cover {i}-of-3" for n in ("block", "digits") for i in (1, 2, 3)}
    assert outcome.jobs == items | {f"merge_blocks {n} dcp-cover" for n in ("block", "digits")}
    for target in targets:
        assert Record.load(copy_of_finished.folder / target).value == Record.load(finished.folder / target).value
    solved = [
        {
            (s.segment, s.block)
            for s in load_solved(copy_of_finished.folder / f"results/blocks/block/dcp-cover/{i}-of-3.npz")[2]
        }
        for i in (1, 2, 3)
    ]
    assert sorted(map(len, solved)) == [1, 1, 2]
    assert len(set.union(*solved)) == 4


def test_what_is_ready_is_weighed_when_a_job_ends_and_not_every_second(first_run: tuple[Workspace, Outcome]) -> None:
    """Snakemake's limit of jobs a second would start a timer with each finished job (snakemake/snakemake#3804)."""
    _, outcome = first_run
    assert 0 < outcome.text.count("Ready jobs: ") <= 2 * len(outcome.jobs)
