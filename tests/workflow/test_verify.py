"""`snakemake verify`: someone else's folder of results is proved again as it lies there, or what is wrong is named."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from workspace import BOUND, NETWORKS, PLANNED, Workspace

from certlip.completeness import prove
from certlip.errors import DataError
from certlip.files import read_npz, write_npz
from certlip.network import Network

ROWS = [(network, method) for network in NETWORKS for method in [*BOUND, *PLANNED]]


def edit_record(results: Path, row: str, **changes: object) -> None:
    path = results / "bounds" / f"{row}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_multipliers(results: Path) -> None:
    path = results / "certificates/block/lipsdp.npz"
    header, arrays = read_npz(path)
    write_npz(path, header, {k: 0.5 * a if k.startswith("multipliers") else a for k, a in arrays.items()})


def edit_weights(results: Path) -> None:
    path = results / "networks/block.npz"
    network = Network.load(path)
    network.layers[0].weight[...] = np.nextafter(network.layers[0].weight, 1)
    Network(network.layers, network.input_shape).save(path)


def edit_table(results: Path) -> None:
    path = results / "bounds.csv"
    value = repr(json.loads((results / "bounds/digits/gram.json").read_text())["value"])
    assert value in path.read_text()
    path.write_text(path.read_text().replace(value, value[:-1] + "1"))


def flip_bit(path: Path) -> None:
    """In the data of the largest array."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda member: member.compress_size)
    content = bytearray(path.read_bytes())
    content[largest.header_offset + 50 + largest.compress_size // 2] ^= 1
    path.write_bytes(content)


def drop_last_row(results: Path) -> None:
    path = results / "bounds.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing record": (lambda r: (r / "bounds/block/gram.json").unlink(), r"block/gram\.json does not exist"),
    "a truncated record": (lambda r: os.truncate(r / "bounds/block/gram.json", 50), r"block/gram\.json is not a"),
    "a smaller value": (lambda r: edit_record(r, "block/gram", value=1e-3), "block/gram: its record says 0.001"),
    "another's record": (lambda r: edit_record(r, "block/gram", method="lipsdp"), "is that of block/lipsdp"),
    "an estimate called certified": (
        lambda r: edit_record(r, "block/autolip", kind="certified"),
        r"autolip\.npz holds no certificate",
    ),
    "a missing certificate": (lambda r: (r / "certificates/block/gram.npz").unlink(), r"gram\.npz does not exist"),
    "a bit-flipped certificate": (lambda r: flip_bit(r / "certificates/block/dcp-sum.npz"), r"dcp-sum\.npz is damaged"),
    "a truncated certificate": (lambda r: os.truncate(r / "certificates/block/gram.npz", 900), r"gram\.npz is damaged"),
    "multipliers that prove less": (edit_multipliers, r"block/lipsdp\.npz does not hold: .* is not proved"),
    "another network's certificate": (
        lambda r: shutil.copy(r / "certificates/digits/gram.npz", r / "certificates/block/gram.npz"),
        "other weights",
    ),
    "a lower bound's certificate": (
        lambda r: shutil.copy(r / "certificates/block/lower.npz", r / "certificates/block/gram.npz"),
        "not the proof of a certified value",
    ),
    "other weights": (edit_weights, r"other weights than those of its record and of block\.npz"),
    "a changed table": (edit_table, "digits/gram is not what its record says"),
    "a missing row of the table": (drop_last_row, "its rows are not those of the configuration"),
}


def test_a_finished_folder_is_proved_row_by_row(finished: Workspace) -> None:
    counts = prove(finished.folder / "results", ROWS)
    assert counts == {"rows": 21, "certified": 10, "estimate": 2, "lower": 2}
    checked = json.loads((finished.folder / "results/checks/soundness.json").read_text())
    assert checked == {"sound": True, **counts}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_to_a_folder_is_one_sentence_that_names_it(
    finished: Workspace, tmp_path: Path, damage: str
) -> None:
    results = shutil.copytree(finished.folder / "results", tmp_path / "results")
    change, words = DAMAGES[damage]
    change(results)
    with pytest.raises(DataError, match=words) as error:
        prove(results, ROWS)
    assert "\n" not in str(error.value)


def test_verify_proves_someone_elses_folder_and_makes_nothing_again(finished: Workspace, workspace: Workspace) -> None:
    """Neither times nor the records of snakemake are those of the run that made it."""
    results = shutil.copytree(finished.folder / "results", workspace.folder / "results")
    for path in results.rglob("*.pt"):
        os.utime(path)
    before = {path: path.read_bytes() for path in results.rglob("*") if path.is_file()}
    for _ in range(2):
        outcome = workspace.snakemake(targets=["verify"])
        assert outcome.returncode == 0, outcome.text
        assert outcome.jobs == {"verify"}
        assert "certlip: verified 21 rows, 10 certified" in outcome.text
    proved = results / "checks" / "verified.json"
    assert json.loads(proved.read_text())["verified"]
    assert {path: path.read_bytes() for path in results.rglob("*") if path.is_file() and path != proved} == before
    edit_multipliers(results)
    outcome = workspace.snakemake(targets=["verify"])
    assert outcome.returncode != 0
    assert "certlip: verify: not sound: results/certificates/block/lipsdp.npz does not hold" in outcome.text
    assert "Traceback" not in outcome.text
