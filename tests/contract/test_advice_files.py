"""Advice about files is followed: what was refused is read then."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import jobs_to_limit
import numpy as np
import pytest
from advice import follow
from PIL import Image

import certlip
from certlip import collect, datasets
from certlip.base import limits
from certlip.base.files import read_npz, write_npz
from certlip.exported import exported_sha256, save_exported
from certlip.methods import dcp
from certlip.network import Activation, Dense, Network
from certlip.proof import certificate
from certlip.pytorch.weights import save_weights
from certlip.solving import blocks
from certlip.untrained import build


def network(number: float = 1.0) -> Network:
    layers = (
        Dense("first", np.diag([number, 2.0]), np.zeros(2)),
        Activation("relu", "relu"),
        Dense("last", np.ones((1, 2)), np.zeros(1)),
    )
    return Network(layers, (2,))


def edited(path: Path, **changes: Any) -> None:
    """Keys of the header of an array file changed."""
    header, arrays = read_npz(path)
    write_npz(path, header | changes, arrays)


def test_a_file_that_does_not_fit_into_memory_is_read_where_there_is_more(tmp_path: Path) -> None:
    path = tmp_path / "large.npz"
    write_npz(path, {}, {"zeros": np.zeros(50 * 2**17)})

    def read(max_memory_mb: float) -> Any:
        return limits.call(read_npz, path, limit=limits.Limits(max_memory_mb=max_memory_mb)).value

    _, arrays = follow("read it on a larger one", lambda: read(20), lambda: read(500))
    assert arrays["zeros"].size == 50 * 2**17


def test_a_call_that_somebody_ended_is_done_when_it_is_run_again() -> None:
    limit = limits.Limits(max_seconds=100)
    done = follow(
        "a process was ended by {}; run again",
        lambda: limits.call(jobs_to_limit.die, int(signal.SIGTERM), limit=limit),
        lambda: limits.call(jobs_to_limit.add, 2, 3, limit=limit),
    )
    assert done.value == 5


def test_rows_are_there_once_they_are_collected_or_the_workflow_ran(tmp_path: Path) -> None:
    bounds, benchmark = tmp_path / "bounds.csv", tmp_path / "solvers.csv"
    rows = collect.collect([certlip.bound(network(), method="product")], {})
    again = follow(
        "run the workflow or certlip.collect first",
        lambda: collect.read(bounds),
        lambda: (collect.save(rows, bounds), collect.read(bounds))[1],
    )
    assert again["value"].tolist() == rows["value"].tolist()
    benchmark.touch()
    follow(
        "does not exist or holds no rows; run the workflow first",
        lambda: collect.read_rows(benchmark),
        lambda: (benchmark.write_text("solver,seconds\nscs,1.0\n"), collect.read_rows(benchmark)),
    )


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (3, 3), 128).save(path)


def test_pictures_are_a_data_set_once_they_lie_where_they_should_and_can_be_read(tmp_path: Path) -> None:
    def fetch() -> datasets.Dataset:
        return datasets.fetch("imagefolder", tmp_path, path="mine", size=[3, 3])

    def put(*parts: str) -> None:
        for part in parts:
            for kind in ("cat", "dog"):
                picture(tmp_path / "mine" / part / kind / "1.png")

    found = follow(
        "put them into folders train/<class> and test/<class> below it",
        fetch,
        lambda: (put("train", "test"), fetch())[1],
    )
    assert found.n_classes == 2
    broken = tmp_path / "mine" / "train" / "cat" / "2.png"
    for remedy in (broken.unlink, lambda: picture(broken)):
        broken.write_bytes(b"not a picture")
        advice = "is not a picture that can be read ({}); repair it, or leave it out of the folder"
        follow(advice, fetch, lambda remedy=remedy: (remedy(), fetch()))


def test_what_a_network_was_exported_from_is_added_or_it_is_exported_again(tmp_path: Path) -> None:
    entry = {"architecture": "conv_block", "options": {"channels": 1, "image_size": [6, 6]}, "seed": 1}
    weights, exported = tmp_path / "net.pt", tmp_path / "net.npz"

    def proved() -> str | None:
        return exported_sha256(tmp_path, "net", entry)

    def add() -> str | None:
        save_weights(weights, build(entry).state_dict())
        return proved()

    def export() -> str | None:
        save_exported(exported, entry, weights)
        return proved()

    save_weights(weights, build(entry).state_dict())
    network().save(exported)
    sha256 = follow("export and bound it again", proved, export)
    weights.unlink()
    assert follow("without it nothing shows what {} was exported from; add it", proved, add) == sha256


def test_a_network_is_read_once_its_numbers_are_finite_and_it_is_exported_again(tmp_path: Path) -> None:
    follow("the weights hold NaN or infinite values; train or export them again", lambda: network(np.nan), network)
    follow(
        "is not real float64 numbers; convert it first",
        lambda: Dense("first", np.ones((1, 2), np.longdouble), np.zeros(1)),
        lambda: Dense("first", np.ones((1, 2), np.longdouble).astype(np.float64), np.zeros(1)),
    )
    path = tmp_path / "net.npz"
    write_npz(path, {"layers": 3}, {})
    again = follow(
        "not a network description: {}; export the network again",
        lambda: Network.load(path),
        lambda: (network().save(path), Network.load(path))[1],
    )
    assert again.sha256 == network().sha256


@pytest.mark.parametrize(
    ("advice", "changes"),
    [
        ("is not a certlip certificate ({}); make it again", {"segments": 3}),
        ("for a network that is no chain; bound the network again", {"certificate": "torus"}),
        ("the network inside does not match its sha256; do not trust this file", {"sha256": "0" * 64}),
    ],
)
def test_a_certificate_holds_again_once_it_is_made_again(advice: str, changes: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "c.npz"

    def bound() -> None:
        certlip.bound(network(), method="product").certificate.save(path)

    bound()
    edited(path, **changes)
    verification = follow(advice, lambda: certificate.load(path), lambda: (bound(), certlip.verify(path))[1])
    assert verification.ok


def test_blocks_that_are_missing_are_solved_and_a_plan_that_is_too_short_is_made_again(tmp_path: Path) -> None:
    net = network()
    plan = dcp.plan(net)
    solved = blocks.solve_blocks(net, plan)
    found = follow(
        "blocks are not solved; run solve_blocks again",
        lambda: blocks.merge_plan(net, plan, solved[1:]),
        lambda: blocks.merge_plan(net, plan, blocks.solve_blocks(net, plan)),
    )
    short = plan.model_copy(update={"segments": ()})
    again = follow(
        "the plan's segments do not reach the last layer; plan again",
        lambda: blocks.merge_plan(net, short, []),
        lambda: blocks.merge_plan(net, dcp.plan(net), solved),
    )
    assert again.value == found.value
