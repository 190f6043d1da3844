"""Certified accuracy in the workflow: an attack a network, a record and certificates a method, all proved again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner
from workspace import HERE, Workspace, copy_workspace

from certlip.cli import app

SECTION = {
    "networks": {"digits": [0.05, 0.1], "waits": [0.1]},
    "methods": {
        "naive": {"method": "product", "pairs": False},
        "lipsdp": {"networks": ["digits"], "local_budget": 30},
    },
    "images": 25,
    "attack": {"n_steps": 10, "n_restarts": 1},
}
CERTIFIED = {"certify_images digits naive", "certify_images digits lipsdp"}
AFTER = {"collect_accuracies", "check_bounds", "write_table certified_accuracy", "draw_figure certified_accuracy"}


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory, checkout: Path) -> Workspace:
    """A finished run of certified accuracy of a trained network, and of one whose images are missing."""
    folder = tmp_path_factory.mktemp("certified")
    shutil.copytree(HERE / "config", folder / "config")
    workspace = Workspace(folder, checkout)
    far = {"dataset": "arrays", "options": {"images": "x.npy", "labels": "y.npy", "n_classes": 4}}
    workspace.edit(lambda datasets: datasets.update(far=far), "datasets.yaml")
    workspace.edit(
        lambda networks: networks.update(
            waits={"architecture": "mlp", "options": {"widths": [16, 4]}, "dataset": "far"}
        ),
        "networks.yaml",
    )
    # one epoch leaves no prediction to certify
    workspace.edit(lambda networks: networks["digits"]["train"].update(epochs=10, learning_rate=0.01), "networks.yaml")
    names = {"tables": ["certified_accuracy"], "figures": ["certified_accuracy"]}
    methods = {"networks": ["digits", "waits"], "methods": {"product": None}}
    workspace.edit(lambda config: config.update(**methods, **names, certified_accuracy=SECTION))
    outcome = workspace.snakemake()
    assert outcome.returncode == 0, outcome.text
    assert "certlip: no_data for waits: data/x.npy is not there; put it there by hand" in outcome.text
    return workspace


def test_rows_tables_and_figures_are_made_and_proved(certified: Workspace) -> None:
    results = certified.folder / "results"
    checked = json.loads((results / "checks/soundness.json").read_text())
    assert checked["accuracies"] == 3
    rows = pd.read_csv(results / "certified_accuracy.csv")
    asked = rows[rows["asked"] & (rows["network"] == "digits")]
    asked = asked.pivot_table(index="radius", columns="method", values="certified")
    assert (asked["lipsdp"] >= asked["naive"]).all()
    assert asked["lipsdp"].max() > 0
    waits = rows[rows["network"] == "waits"].iloc[0]
    assert (waits["status"], waits["n_images"]) == ("no_data", 0)
    assert "data/x.npy is not there" in waits["reason"]
    table = (results / "tables/certified_accuracy.md").read_text()
    assert "no_data" in table
    assert (results / "figures/certified_accuracy.png").read_bytes().startswith(b"\x89PNG")
    files = list((results / "margins/digits/lipsdp").glob("*.npz"))
    assert any(file.stem.startswith("image-") for file in files)
    assert CliRunner().invoke(app, ["verify", *map(str, files)]).exit_code == 0


def test_a_finished_run_of_certified_accuracy_leaves_nothing_to_do(certified: Workspace) -> None:
    assert certified.dry_run() == set()


@pytest.fixture
def changed(certified: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the finished workspace to change."""
    return copy_workspace(certified, tmp_path / "copy")


def test_other_radii_attack_and_certify_again_and_train_nothing(changed: Workspace) -> None:
    changed.edit(lambda config: config["certified_accuracy"]["networks"].update(digits=[0.05, 0.2]))
    assert changed.dry_run() == {"attack_images digits", *CERTIFIED, *AFTER}


def test_another_option_of_a_method_runs_that_method_only(changed: Workspace) -> None:
    changed.edit(lambda config: config["certified_accuracy"]["methods"]["lipsdp"].update(rtol=1e-3))
    assert changed.dry_run() == {"certify_images digits lipsdp", *AFTER}


def test_images_that_come_are_attacked_and_certified(changed: Workspace) -> None:
    rng = np.random.default_rng(0)
    (changed.folder / "data").mkdir(exist_ok=True)
    np.save(changed.folder / "data/x.npy", rng.random((30, 1, 4, 4), dtype=np.float32))
    np.save(changed.folder / "data/y.npy", rng.integers(0, 4, 30))
    outcome = changed.snakemake()
    assert outcome.returncode == 0, outcome.text
    assert "no_data" not in outcome.text
    assert {"attack_images waits", "certify_images waits naive"} <= outcome.jobs
    assert not {"train_network digits", *CERTIFIED} & outcome.jobs
    rows = pd.read_csv(changed.folder / "results/certified_accuracy.csv")
    assert (rows[rows["network"] == "waits"]["n_images"] == 25).all()


def test_verify_proves_someone_elses_accuracies_and_names_what_does_not_hold(changed: Workspace) -> None:
    outcome = changed.snakemake(targets=["verify"])
    assert outcome.returncode == 0, outcome.text
    assert "3 accuracies" in outcome.text
    path = changed.folder / "results/accuracies/digits/naive.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "radii": [1.01 * r for r in record["radii"]]}))
    outcome = changed.snakemake(targets=["verify"])
    assert outcome.returncode != 0
    assert "certlip: verify: not sound: results/margins/digits/naive: the radius of image" in outcome.text
    assert "Traceback" not in outcome.text
