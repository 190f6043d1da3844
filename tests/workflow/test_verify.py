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
import yaml
from workspace import BOUND, HERE, NETWORKS, PLANNED, Workspace

import certlip
from certlip import collect
from certlip.base.errors import DataError, Refusal
from certlip.base.files import read_npz, write_npz, write_refusal
from certlip.base.record import Record
from certlip.completeness import prove
from certlip.entries import load_module
from certlip.network import Network
from certlip.proof.certificate import LocalCertificate, SegmentProof, UpperCertificate
from certlip.proof.local import inequality, slopes_around
from certlip.pytorch.export import export_network
from certlip.pytorch.weights import save_weights
from certlip.sdp import solve_lmi
from certlip.solving.evaluate import save_result
from certlip.untrained import build

ROWS = [(network, method) for network in NETWORKS for method in [*BOUND, *PLANNED]]
ENTRIES = yaml.safe_load((HERE / "config" / "networks.yaml").read_text())


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


def refuse(results: Path) -> None:
    write_refusal(results / "networks/block.npz", Refusal("unsupported", "conv0: no bound for Conv2d"))


def prove_without_layers(results: Path) -> None:
    """A network of nothing has the constant 1."""
    refuse(results)
    empty = UpperCertificate(Network((), (1, 6, 6)), (SegmentProof(0, 0, "constants", 1.0),))
    empty.save(results / "certificates/block/gram.npz")
    edit_record(results, "block/gram", value=empty.value, weights_sha256=empty.network.sha256)


def accept_the_square(results: Path) -> None:
    """A network that has no bound, as if it were another that has."""
    shutil.copy(results / "networks/block.npz", results / "networks/square.npz")
    for method in BOUND:
        for kind, suffix in (("bounds", "json"), ("certificates", "npz")):
            folder = results / kind
            shutil.copy(folder / f"block/{method}.{suffix}", folder / f"square/{method}.{suffix}")
        edit_record(results, f"square/{method}", network="square")


def use_another_seed(results: Path) -> None:
    """All that lies under the name is consistent, and of another network."""
    file = results / "networks/block"
    save_weights(f"{file}.pt", build({**ENTRIES["block"], "seed": 2}).state_dict())
    network = export_network(*load_module(ENTRIES["block"], f"{file}.pt"))
    network.save(f"{file}.npz")
    for method in [*BOUND, *PLANNED]:
        options = {"n_points": 32} if method == "lower" else {}
        record = certlip.bound(network, method=method.partition("-")[0], name="block", **options)
        record = record.model_copy(update={"method": method})
        save_result(record, results / f"bounds/block/{method}.json", results / f"certificates/block/{method}.npz")
    records = [Record.load(results / "bounds" / n / f"{m}.json") for n, m in ROWS]
    collect.save(collect.collect(records, {}), results / "bounds.csv")


def claim_everywhere_what_holds_around_a_point(results: Path) -> None:
    """A proof that holds, of increments from one point within a radius."""
    network = Network.load(results / "networks/block.npz")
    point = np.random.default_rng(0).standard_normal(network.input_shape)
    slopes = slopes_around(network, point, 0.1)
    solved = solve_lmi(inequality(network, slopes))
    local = LocalCertificate(network, point, 0.1, slopes, solved.rho, solved.multipliers)
    assert certlip.verify(local).ok
    local.save(results / "certificates/block/lipsdp.npz")
    edit_record(results, "block/lipsdp", value=local.value)


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
    "a constant around a point": (claim_everywhere_what_holds_around_a_point, "not the proof of a certified value"),
    "other weights": (edit_weights, r"block\.npz is not what .*block\.pt exports to"),
    "a refusal instead of a network": (refuse, r"block\.npz is not what .*block\.pt exports to"),
    "a graph of nothing": (prove_without_layers, r"block\.npz is not what .*block\.pt exports to"),
    "a network instead of a refusal": (accept_the_square, r"square\.npz is not what .*square\.pt exports to"),
    "another network under this name": (use_another_seed, r"block\.pt does not hold the weights of the network's seed"),
    "weights of another architecture": (
        lambda r: shutil.copy(r / "networks/digits.pt", r / "networks/block.pt"),
        "the weights do not fit",
    ),
    "missing weights": (lambda r: (r / "networks/block.pt").unlink(), r"block\.pt is missing, and without it nothing"),
    "a changed table": (edit_table, "digits/gram is not what its record says"),
    "a missing row of the table": (drop_last_row, "its rows are not those of the configuration"),
}


def test_a_finished_folder_is_proved_row_by_row(finished: Workspace) -> None:
    counts = prove(finished.folder / "results", ROWS, ENTRIES)
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
        prove(results, ROWS, ENTRIES)
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
