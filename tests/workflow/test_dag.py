"""What snakemake would run: from nothing all, after a finished run nothing, after an edit what the edit touches."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from workspace import BOUND, COMPARE, FIGURES, NETWORKS, PLANNED, REPOSITORY, Workspace, copy_checkout, copy_workspace

from certlip.retry import retry


def bound_jobs(networks: list[str], methods: list[str]) -> set[str]:
    return {f"bound_network {n} {m}" for n in networks for m in methods}


def planned_jobs(networks: list[str], methods: list[str]) -> set[str]:
    pairs = [f"{n} {m}" for n in networks for m in methods]
    return {f"{rule} {p}" for rule in ("plan_blocks", "solve_plan") for p in pairs}


@pytest.fixture
def edited(finished: Workspace, tmp_path: Path) -> Workspace:
    """The finished workspace with its own copy of config/ and of the repository, both free to edit."""
    copy = copy_workspace(finished, tmp_path / "copy")
    return Workspace(copy.folder, copy_checkout(finished.checkout, tmp_path / "checkout"))


def replace(workspace: Workspace, file: str, old: str, new: str) -> None:
    path = workspace.checkout / "src" / "certlip" / file
    text = path.read_text()
    assert old in text, f"{file} no longer holds {old!r}: choose another edit"
    path.write_text(text.replace(old, new, 1))


def test_an_empty_directory_needs_every_job_once(workspace: Workspace) -> None:
    expected = {"fetch_dataset digits", "train_network digits", "export_network digits"}
    expected |= {"seed_network block", "seed_network square"}
    expected |= bound_jobs(NETWORKS, BOUND) | planned_jobs(NETWORKS, PLANNED) | COMPARE
    assert workspace.dry_run() == expected


def test_a_dry_run_of_the_paper_imports_nothing_heavy(tmp_path: Path) -> None:
    """A cluster's jobs execute the Snakefile again. Pandas is what the executor plug-in for SLURM imports."""
    workspace = Workspace(tmp_path, REPOSITORY, str(REPOSITORY / "config" / "config.yaml"))
    code = (
        "import sys\nfrom snakemake.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'torchvision', 'cvxpy', 'sklearn', 'matplotlib', 'scipy.linalg', 'scipy.sparse', "
        "'scipy.special'} & set(sys.modules)\n"
        "assert {'certlip.methods.dcp', 'certlip.tables.claims'} <= set(sys.modules)\nassert not heavy, heavy\n"
    )
    arguments = workspace.command("--dry-run", "--quiet")[3:]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=workspace.folder,
        env=workspace.variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_a_finished_run_leaves_nothing_to_do(finished: Workspace) -> None:
    assert finished.dry_run() == set()


def test_an_edited_comment_or_docstring_runs_nothing(edited: Workspace) -> None:
    for file in (
        "methods/lower/__init__.py",
        "solving/blocks.py",
        "proof/certify.py",
        "collect.py",
        "workflow.py",
        "zoo/conv_block.py",
    ):
        path = edited.checkout / "src" / "certlip" / file
        path.write_text(path.read_text().replace('"""', '"""Edited. ', 1) + "\n# edited\n")
    assert edited.dry_run() == set()


def test_an_edited_constant_of_a_method_runs_that_method_only(edited: Workspace) -> None:
    replace(edited, "methods/lower/__init__.py", "_BATCH = 64", "_BATCH = 32")
    assert edited.dry_run() == bound_jobs(NETWORKS, ["lower"]) | COMPARE


def test_an_edited_table_is_written_again_and_nothing_else(edited: Workspace) -> None:
    replace(edited, "tables/width_sweep.py", "INFO = ", "EDITED = 1\nINFO = ")
    assert edited.dry_run() == {"write_table width_sweep"}


def test_an_edited_architecture_runs_its_networks_only(edited: Workspace) -> None:
    replace(edited, "zoo/conv_block.py", "n_layers < 1", "n_layers < 0")
    assert edited.dry_run() == {
        "seed_network block",
        *bound_jobs(["block"], BOUND),
        *planned_jobs(["block"], PLANNED),
        *COMPARE,
    }


def test_an_edited_export_trains_nothing_again(edited: Workspace) -> None:
    replace(
        edited,
        "pytorch/export.py",
        "from __future__ import annotations\n",
        "from __future__ import annotations\n\nEDITED = 1\n",
    )
    jobs = edited.dry_run()
    assert {"export_network digits", "seed_network block", "seed_network square"} <= jobs
    assert "train_network digits" not in jobs


def test_a_changed_option_runs_its_method_only(edited: Workspace) -> None:
    edited.edit(lambda config: config["methods"]["dcp-sum"].update(grid=[3, 3]))
    assert edited.dry_run() == planned_jobs(NETWORKS, ["dcp-sum"]) | COMPARE


def test_a_changed_network_runs_that_network_only(edited: Workspace) -> None:
    edited.edit(lambda networks: networks["block"].update(seed=7), "networks.yaml")
    assert edited.dry_run() == {
        "seed_network block",
        *bound_jobs(["block"], BOUND),
        *planned_jobs(["block"], PLANNED),
        *COMPARE,
    }


def test_a_moved_place_in_a_sweep_collects_again_and_bounds_nothing(edited: Workspace) -> None:
    edited.edit(lambda networks: networks["block"]["experiment"].update(x=3), "networks.yaml")
    assert edited.dry_run() == COMPARE


def test_the_workflow_runs_the_package_of_its_own_checkout(edited: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever package is installed, as under --sdm conda, where none is."""
    methods = edited.checkout / "src" / "certlip" / "methods"
    (methods / "only_here.py").write_text((methods / "product.py").read_text())
    edited.restrict(["block"], {"only_here": None})
    monkeypatch.setattr(Workspace, "variables", {**edited.variables, "PYTHONPATH": ""})
    outcome = edited.snakemake(targets=["results/bounds/block/only_here.json"])
    assert outcome.returncode == 0, outcome.text


def test_another_workflow_can_take_this_one_as_a_module(edited: Workspace) -> None:
    (edited.folder / "Snakefile").write_text(
        f'module certlip:\n    snakefile: "{edited.checkout}/Snakefile"\n    config: config\n\n'
        "use rule * from certlip as certlip_*\n\nrule mine:\n    default_target: True\n"
        '    input: "results/bounds/block/gram.json"\n'
    )
    other = Workspace(edited.folder, edited.checkout)
    command = [*other.command("--dry-run", "--forcerun", "certlip_bound_network")]
    command[command.index("--snakefile") + 1] = str(edited.folder / "Snakefile")
    done = subprocess.run(command, cwd=edited.folder, env=other.variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "certlip_bound_network" in done.stdout + done.stderr


def test_a_raised_limit_runs_nothing_again(edited: Workspace) -> None:
    edited.edit(lambda config: config["limits"].update(max_seconds=120, max_memory_mb=3000, threads=2))
    edited.edit(lambda config: config.update(data_folder="elsewhere", cache_folder="elsewhere"))
    assert edited.dry_run() == set()


def test_files_whose_times_alone_are_new_run_nothing_again(edited: Workspace) -> None:
    """As after a checkout of the repository, or a copy of the results."""
    for folder in (edited.checkout, edited.folder / "results", edited.folder / "config"):
        for path in folder.rglob("*"):
            path.touch()
    assert edited.dry_run() == set()


def test_an_edited_script_runs_its_rule_again(edited: Workspace) -> None:
    path = edited.checkout / "workflow" / "scripts" / "draw_figure.py"
    path.write_text(path.read_text().replace("with job(snakemake):", "EDITED = 1\nwith job(snakemake):"))
    assert edited.dry_run() == {f"draw_figure {figure}" for figure in FIGURES}


@pytest.mark.parametrize(
    ("file", "made_by"),
    [
        ("datasets/digits.npz", "fetch_dataset digits"),
        ("networks/block.pt", "seed_network block"),
        ("networks/digits.training.json", "train_network digits"),
        ("networks/block.npz", "seed_network block"),
        ("networks/digits.npz", "export_network digits"),
        ("plans/block/lipsdp.json", "plan_blocks block lipsdp"),
        ("blocks/block/dcp-sum/1-of-1.npz", "solve_plan block dcp-sum"),
        ("bounds/block/gram.json", "bound_network block gram"),
        ("bounds/block/lipsdp.json", "solve_plan block lipsdp"),
        ("certificates/block/gram.npz", "bound_network block gram"),
        ("bounds.csv", "collect_bounds"),
        ("checks/soundness.json", "check_bounds"),
        ("tables/bounds.tex", "write_table bounds"),
    ],
)
def test_a_file_that_was_deleted_is_made_again(copy_of_finished: Workspace, file: str, made_by: str) -> None:
    (copy_of_finished.folder / "results" / file).unlink()
    assert made_by in copy_of_finished.dry_run()


def test_rows_named_for_a_retry_are_made_again_with_what_follows_from_them(copy_of_finished: Workspace) -> None:
    assert retry(copy_of_finished.folder / "results", ["block/dcp-*", "gram"]) == [
        *("block/dcp-cover", "block/dcp-sum", "block/gram", "digits/gram", "square/gram"),
    ]
    assert copy_of_finished.dry_run() == {
        *planned_jobs(["block"], ["dcp-cover", "dcp-sum"]),
        *bound_jobs(NETWORKS, ["gram"]),
        *COMPARE,
    }


def test_an_added_method_runs_beside_what_is_there(edited: Workspace) -> None:
    edited.edit(lambda config: config["methods"].update({"lower-64": {"method": "lower", "n_points": 64}}))
    assert edited.dry_run() == bound_jobs(NETWORKS, ["lower-64"]) | COMPARE


def test_a_benchmark_on_networks_waits_for_their_files(edited: Workspace) -> None:
    (edited.folder / "results" / "networks" / "block.npz").unlink()
    options = {"shapes": [], "networks": ["block"]}
    edited.edit(lambda config: config.update(benchmarks={"layer_norms": options}, tables=["layer_norms"]))
    assert {"seed_network block", "measure_benchmark layer_norms"} <= edited.dry_run(targets=["benchmarks"])


@pytest.mark.parametrize("cut_short", [0, 1])
def test_a_job_asks_a_cluster_for_what_its_limits_allow_and_more_once_it_ran_out(
    edited: Workspace, cut_short: int
) -> None:
    """Four small programs, one after the other: four times 70 s and two minutes of start; 2000 MB and 500 to start.

    An attempt that failed for another reason is no cause to ask for more.
    """
    log = edited.folder / "logs/solve_plan/block/dcp-sum.log"
    Path(f"{log}.cut_short").write_text("ended without an answer\n" * cut_short)
    outcome = edited.snakemake("--dry-run", "--forcerun", "solve_plan", "--attempt", "3")
    jobs = re.findall(r"rule solve_plan:\n((?: {4}.*\n)+)", outcome.text)
    (job,) = [body for body in jobs if "results/blocks/block/dcp-sum/" in body]
    assert f"runtime={7 * (1 + cut_short)}," in job
    assert f"mem_mb={2500 * (1 + cut_short)}," in job
