"""The configuration of the field, cut down to two tiny networks an experiment: files of others, sizes, models."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from workspace import Workspace

from certlip import collect, zoo
from certlip.pytorch.export import export_network
from certlip.pytorch.weights import save_weights

TABLES = ["peers", "scaling", "imagenet_models"]
STACK = {"channels": 2, "input_channels": 2, "n_layers": 2, "padding": 1, "image_size": [6, 6]}
BLOCKS = {"widths": [2], "n_blocks": 1, "input_shape": [1, 8, 8]}


@pytest.fixture
def field(workspace: Workspace) -> Workspace:
    folder = workspace.folder
    theirs = zoo.make("residual_mlp", 5, n_inputs=6, width=4, n_blocks=2, n_outputs=3).state_dict()
    file = folder / "data" / "published" / "theirs.pt"
    save_weights(file, {f"layer{n}": value for n, value in enumerate(theirs.values())})
    weights = {"url": "https://localhost:9/theirs.pt", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    peers = {"experiment": {"name": "peers", "x": 1}}
    models = {"experiment": {"name": "imagenet_models", "x": 1}}
    entries = {
        "fetched": {
            "architecture": "residual_mlp",
            "options": {"n_inputs": 6, "width": 4, "n_blocks": 2, "n_outputs": 3},
            "weights": {**weights, "file": "published/theirs.pt", "in_order": True},
            **peers,
            "reported": {"source": "A. Stranger 2001", "solver": "MOSEK", "bounds": {"GLipSDP": 1e6}},
        },
        "absent": {"npz": "data/published/absent.npz", "origin": "github.com/them/theirs", **peers},
        "side{}": {
            "architecture": "conv_block",
            "options": STACK,
            "sweep": {"options.image_size, experiment.x": [6, 9]},
            "experiment": {"name": "scaling_side"},
        },
        "squeezenet": {"torchvision": "squeezenet1_1", "input_shape": [3, 32, 32], **models},
        "trained": {
            "architecture": "resnet",
            "options": BLOCKS,
            "train": {"dataset": "digits", "epochs": 1},
            **models,
        },
    }
    workspace.edit(lambda networks: networks.update(entries), "networks.yaml")
    methods = {
        "product": None,
        "lower": {"n_points": 2, "n_starts": 1, "n_steps": 1, "networks": ["fetched", "absent", "trained"]},
        "lipsdp": {"networks": ["fetched", "side*"]},
        "torus": {"networks": ["side*", "trained"]},
    }
    names = ["fetched", "absent", "side*", "squeezenet", "trained"]
    workspace.edit(lambda config: config.update(networks=names, methods=methods, tables=TABLES, figures=TABLES))
    return workspace


def test_each_experiment_has_a_table_and_a_figure_and_a_file_that_is_not_there_waits_with_its_origin(
    field: Workspace,
) -> None:
    results = field.folder / "results"
    outcome = field.snakemake()
    assert outcome.returncode == 0, outcome.text
    assert "certlip: no_data for absent: data/published/absent.npz is not there" in outcome.text
    bounds = collect.read(results / "bounds.csv").set_index(["network", "method"])
    waits = bounds.loc["absent"]
    assert set(waits["status"]) == {"no_data"}
    assert waits["reason"].str.endswith("it comes from github.com/them/theirs").all()
    assert set(bounds.drop("absent", level="network")["status"]) == {"ok"}
    assert bounds.loc[("trained", "torus"), "test_accuracy"] > 0
    made = {name: (results / "tables" / f"{name}.md").read_text() for name in TABLES}
    for name, networks in {"peers": ["fetched", "absent"], "scaling": ["side6", "side9"]}.items():
        rows = [line.split(" | ")[0 if name == "peers" else 1] for line in made[name].splitlines() if "|" in line][2:]
        assert [row.removeprefix("| ") for row in rows] == networks
    assert "| fetched | GLipSDP | 1.000e6 |" in made["peers"]
    assert all(f"| {name} |" in made["imagenet_models"] for name in ("squeezenet", "trained"))
    assert all((results / "figures" / f"{name}.svg").stat().st_size > 1000 for name in TABLES)
    assert field.dry_run() == set()

    put(field.folder / "data" / "published" / "absent.npz")
    jobs = field.dry_run()
    assert "seed_network absent" in jobs
    assert not any(name in job.split() for job in jobs for name in ("fetched", "side6", "squeezenet", "trained"))


def put(path: Path) -> None:
    torch.manual_seed(0)
    export_network(torch.nn.Linear(3, 2), (3,)).save(path)
