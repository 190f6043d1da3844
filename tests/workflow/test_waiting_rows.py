"""Where no network reaches data or weights all other rows are made; theirs wait, and are made once it is there."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from workspace import Workspace

from certlip import collect

NOWHERE = "https://localhost:9"
METHODS = {"product": None, "autolip": None, "dcp": {"merge": "sum"}}
"""Of a network, of a module, and of a plan."""


@pytest.fixture
def waiting(workspace: Workspace) -> Workspace:
    """A network trained on MNIST, one with fetched weights, and one that needs neither."""
    weights = {"url": f"{NOWHERE}/theirs.pt", "sha256": "0" * 64}
    workspace.edit(
        lambda networks: networks.update(
            trained={"architecture": "cnn1", "options": {"channels": 1}, "train": {"dataset": "far"}},
            fetched={**networks["block"], "weights": weights},
        ),
        "networks.yaml",
    )
    workspace.edit(
        lambda datasets: datasets.update(far={"dataset": "mnist", "options": {"mirrors": [NOWHERE]}}), "datasets.yaml"
    )
    workspace.edit(
        lambda config: config.update(
            networks=["trained", "fetched", "block"], methods=METHODS, tables=["bounds_wide"], figures=[]
        )
    )
    return workspace


def put_by_hand(workspace: Workspace, content: bytes) -> Path:
    """The weights in their place, their checksum in the configuration."""
    file = workspace.folder / "data" / "weights" / "theirs.pt"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    return file


def test_rows_wait_for_their_files_and_only_they_are_made_when_a_file_comes(
    waiting: Workspace, finished: Workspace
) -> None:
    folder = waiting.folder
    content = (finished.folder / "results/networks/block.pt").read_bytes()
    sha256 = hashlib.sha256(content).hexdigest()
    waiting.edit(lambda networks: networks["fetched"]["weights"].update(sha256=sha256), "networks.yaml")

    outcome = waiting.snakemake()
    assert outcome.returncode == 0, outcome.text
    sentences = [line for line in outcome.text.splitlines() if line.startswith("certlip: ")]
    assert len(sentences) == 2, outcome.text
    for words in (("trained", "data/MNIST/raw", "by hand"), ("fetched", "data/weights/theirs.pt", "by hand")):
        assert any(all(word in sentence for word in words) for sentence in sentences)
    bounds = collect.read(folder / "results" / "bounds.csv")
    assert set(bounds[bounds["network"] == "block"]["status"]) == {"ok"}
    waits = bounds[bounds["network"] != "block"]
    assert len(waits) == 2 * len(METHODS)
    assert set(waits["status"]) == {"no_data"}
    assert waits["value"].isna().all()
    assert waits[waits["network"] == "fetched"]["reason"].str.contains("data/weights/theirs.pt").all()
    assert waits[waits["network"] == "trained"]["reason"].str.contains("t10k-labels-idx1-ubyte.gz").all()
    assert "no_data" in (folder / "results/tables/bounds_wide.md").read_text()
    assert waiting.dry_run() == set()

    put_by_hand(waiting, content)
    jobs = waiting.dry_run()
    assert "fetch_weights fetched" in jobs
    assert not any(f" {network}" in job for job in jobs for network in ("trained", "block"))
    assert waiting.snakemake().returncode == 0
    made = collect.read(folder / "results" / "bounds.csv").set_index(["network", "method"])["value"]
    assert made["fetched", "product"] == made["block", "product"]
    assert waiting.dry_run() == set()


def test_a_wrong_file_put_by_hand_costs_its_rows_until_it_is_replaced(waiting: Workspace) -> None:
    waiting.restrict(["fetched"], {"product": None})
    put_by_hand(waiting, b"not these")
    outcome = waiting.snakemake()
    assert outcome.returncode == 0, outcome.text
    assert "give the one that the checksum is of" in outcome.text
    assert waiting.dry_run() == set()
    put_by_hand(waiting, b"these perhaps")
    assert "fetch_weights fetched" in waiting.dry_run()


def test_a_damaged_data_set_costs_its_rows_until_it_is_replaced(waiting: Workspace) -> None:
    waiting.restrict(["trained", "block"], {"product": None})
    raw = waiting.folder / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    for name in names:
        (raw / f"{name}-ubyte.gz").write_bytes(b"not these")
    outcome = waiting.snakemake()
    assert outcome.returncode == 0, outcome.text
    bounds = collect.read(waiting.folder / "results" / "bounds.csv").set_index("network")
    assert bounds["status"].to_dict() == {"trained": "no_data", "block": "ok"}
    assert "that lies there has a wrong checksum" in bounds.loc["trained", "reason"]
    assert waiting.dry_run() == set()
    (raw / "train-images-idx3-ubyte.gz").write_bytes(b"these perhaps")
    assert "fetch_dataset far" in waiting.dry_run()
