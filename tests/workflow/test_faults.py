"""Disks, clocks, files and solvers that fail: what is lost is named, and nothing is silently wrong."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch
from random_networks import random_network
from workspace import HERE, Workspace, copy_checkout, copy_workspace

from certlip.base.errors import DataError, NoData
from certlip.base.files import read_npz, write_npz
from certlip.base.record import Record
from certlip.network import Network
from certlip.pytorch.weights import fetch_weights, load_weights, save_weights

TARGET = "results/bounds/block/gram.json"
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")

BROKEN = ("nan", "infinite", "negative", "zero", "huge", "random", "hangs")

ASK = """
import json, sys, certlip
from certlip.network import Network
network = Network.load(sys.argv[1])
for question in json.loads(sys.argv[2]):
    record = certlip.bound(network, **question)
    proved = record.certificate is not None and bool(certlip.verify(record.certificate))
    print(json.dumps([record.status, record.value, record.reason, record.seconds, proved]), flush=True)
"""


def ask(network: Path, *questions: dict, environment: dict[str, str], under: str = "exec") -> list[list]:
    """Status, value, reason, seconds of `certlip.bound` with these arguments, and whether the certificate holds."""
    command = [sys.executable, "-c", ASK, str(network), json.dumps(questions)]
    done = subprocess.run(
        ["bash", "-c", f'{under} "$@"', "bash", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture
def network(tmp_path: Path) -> Path:
    """The file of a small network."""
    random_network(1, max_linear=3, kinds=("relu",)).save(tmp_path / "network.npz")
    return tmp_path / "network.npz"


def test_whatever_a_solver_claims_no_bound_is_below_the_truth(checkout: Path, tmp_path: Path, network: Path) -> None:
    """NaN, infinities, negative, zero, huge and random multipliers called optimal, and a solver that never returns."""
    own = copy_checkout(checkout, tmp_path / "checkout")
    for how in BROKEN:
        shutil.copy(HERE / "solvers" / "broken.py", own / "src/certlip/sdp/solvers" / f"{how}.py")
    limits = {"max_seconds": 1.0, "max_memory_mb": 2000}
    questions = [
        {"method": m, "solver": how, **limits} for how in BROKEN for m in ("lipsdp", "dcp")[: 1 + (how == "nan")]
    ]
    answers = ask(network, *questions, environment={"PYTHONPATH": str(own / "src")})
    truth = random_network(1, max_linear=3, kinds=("relu",))
    for question, (status, value, reason, _, proved) in zip(questions, answers, strict=True):
        assert (value is None) == (status != "ok"), question
        if value is None:
            assert status in ("not_certified", "solver_failed", "time_limit")
            assert reason
        else:
            assert proved
            assert oracle.is_at_least(value, truth), question
    hung = answers[questions.index({"method": "lipsdp", "solver": "hangs", **limits})]
    assert hung[0] == "ok"
    assert "product of layer constants" in hung[2] or "product of norms" in hung[2]


def test_a_small_ulimit_is_a_row_that_says_memory(network: Path) -> None:
    """The address space of the whole program, as shells and clusters limit it."""
    (answer,) = ask(network, {"method": "lower", "max_seconds": 100}, environment={}, under="ulimit -v 700000; exec")
    assert answer[0] == "memory_limit"
    assert "memory" in answer[2]


@contextlib.contextmanager
def mounted(folder: Path, *options: str) -> Iterator[None]:
    """A file system mounted on a folder; skipped where this needs rights that the test does not have."""
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", *options, str(folder)], capture_output=True, check=False).returncode
    ):
        pytest.skip("file systems cannot be mounted here: needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_once_there_is_room(copy_of_finished: Workspace) -> None:
    workspace = copy_of_finished
    certificates = workspace.folder / "results" / "certificates" / "block"
    (certificates / "gram.npz").unlink()
    before = Record.load(workspace.folder / TARGET).value
    with mounted(certificates, "-t", "tmpfs", "-o", "size=64k", "tmpfs"):
        with contextlib.suppress(OSError):
            (certificates / "filler").write_bytes(bytes(2**17))
        outcome = workspace.snakemake("--forcerun", "bound_network", targets=[TARGET])
        assert outcome.returncode != 0
        assert "gram.npz cannot be written (No space left on device)" in outcome.text
        assert "Traceback" not in outcome.text
        assert not (workspace.folder / TARGET).exists()
        assert [path.name for path in certificates.iterdir()] == ["filler"]
        (certificates / "filler").unlink()
        outcome = workspace.snakemake(targets=[TARGET])
        assert outcome.returncode == 0, outcome.text
        assert Record.load(workspace.folder / TARGET).value == before


def test_a_read_only_folder_of_results_is_one_sentence_and_a_copy_of_it_is_run(
    copy_of_finished: Workspace, tmp_path: Path
) -> None:
    workspace = copy_of_finished
    results = workspace.folder / "results"
    for path in (workspace.folder / TARGET, results / "certificates/block/gram.npz"):
        path.unlink()  # of files that are there, snakemake says itself that they are write-protected
    with mounted(results, "--bind", str(results)):
        subprocess.run(["mount", "-o", "remount,ro,bind", str(results)], check=True)
        outcome = workspace.snakemake(targets=[TARGET])
        copy = copy_workspace(workspace, tmp_path / "writable")
    assert outcome.returncode != 0
    assert "certlip: results/ cannot be written to; run in a copy of this folder" in outcome.text
    assert "Traceback" not in outcome.text
    outcome = copy.snakemake(targets=[TARGET])
    assert outcome.returncode == 0, outcome.text
    assert (copy.folder / TARGET).exists()


@pytest.mark.parametrize("write", [save_weights, write_npz], ids=["weights", "arrays"])
def test_no_half_file_is_left_on_a_full_disk(tmp_path: Path, write: Callable[..., None]) -> None:
    (tmp_path / "full").mkdir()
    with mounted(tmp_path / "full", "-t", "tmpfs", "-o", "size=64k", "tmpfs"):
        array = np.random.default_rng(0).standard_normal(10**5)
        arguments = ({"a": torch.from_numpy(array)},) if write is save_weights else ({}, {"a": array})
        with pytest.raises(DataError, match=r"cannot be written \(No space left on device\)"):
            write(tmp_path / "full" / "file", *arguments)
        assert not list((tmp_path / "full").iterdir())


@pytest.mark.parametrize("n_bits", [1, pytest.param(8, marks=pytest.mark.nightly)])
def test_no_flipped_bit_of_a_weights_file_is_taken_for_a_weight(
    n_bits: int, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Of the file of a run, which knows its checksums, and of a fetched one, whose checksum is in the configuration.

    One bit of each byte here, all with ``make nightly``: each flip is a read of the file.
    """
    weights = {"weight": torch.randn(3, 4, dtype=torch.float64), "bias": torch.randn(3)}
    file = tmp_path / "weights.pt"
    save_weights(file, weights)
    content = file.read_bytes()
    refused = 0
    flips = [(place, 1 << (place + bit) % 8) for place in range(len(content)) for bit in range(n_bits)]
    for place, bit in flips:
        file.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        found = _weights_or_refusal(file)
        if isinstance(found, str):
            assert str(file) in found
            refused += 1
        else:  # a bit that says nothing of the weights: a date, or padding
            assert list(found) == list(weights)
            assert all(torch.equal(found[name], weights[name]) for name in weights), (place, bit)
    assert refused > len(flips) // 4
    with pytest.raises(DataError, match="sha256"):
        fetch_weights(file.as_uri(), hashlib.sha256(content).hexdigest(), file)
    record_property("bits_flipped", len(flips))
    record_property("refused", refused)


def _weights_or_refusal(file: Path) -> dict | str:
    try:
        return load_weights(file)
    except DataError as error:
        return str(error)


def test_a_flipped_bit_in_the_weights_of_a_run_is_named_and_what_it_held_made_again(
    copy_of_finished: Workspace,
) -> None:
    weights = copy_of_finished.folder / "results/networks/digits.pt"
    before = load_weights(weights)
    content = bytearray(weights.read_bytes())
    place = content.index(next(iter(before.values())).numpy().tobytes())
    content[place + 3] ^= 4
    weights.write_bytes(content)
    exported = weights.with_suffix(".npz")
    exported.unlink()
    outcome = copy_of_finished.snakemake(targets=["results/networks/digits.npz"])
    assert outcome.returncode == 0, outcome.text
    with pytest.raises(NoData, match=r"results/networks/digits\.pt is damaged"):
        Network.load(exported)
    weights.unlink()
    outcome = copy_of_finished.snakemake(targets=["results/networks/digits.pt", "results/networks/digits.npz"])
    assert outcome.returncode == 0, outcome.text
    assert all(torch.equal(load_weights(weights)[name], before[name]) for name in before)
    assert Network.load(exported).layers


def test_forged_blocks_are_named_and_solved_again_once_they_are_deleted(copy_of_finished: Workspace) -> None:
    """A much smaller rho: no record says it, and following the advice gives the bound of before."""
    workspace, target = copy_of_finished, "results/bounds/block/dcp-sum.json"
    before = Record.load(workspace.folder / target).value
    workspace.edit(lambda config: config["methods"]["dcp-sum"].update(parts=2))
    assert workspace.snakemake(targets=[target]).returncode == 0
    blocks = workspace.folder / "results/blocks/block/dcp-sum/1-of-2.npz"
    header, arrays = read_npz(blocks)
    for entry in header["solved"]:
        entry["rho"] *= 1e-4
    write_npz(blocks, header, arrays)
    outcome = workspace.snakemake(targets=[target])
    assert outcome.returncode != 0
    named = (
        "certlip: merge_blocks, block, dcp-sum: results/blocks/block/dcp-sum/1-of-2.npz does not prove what it claims"
    )
    assert named in outcome.text
    assert "; delete it and run again" in outcome.text
    assert "Traceback" not in outcome.text
    assert not (workspace.folder / target).exists()
    blocks.unlink()
    outcome = workspace.snakemake(targets=[target])
    assert outcome.returncode == 0, outcome.text
    assert Record.load(workspace.folder / target).value == before


JUMP = '''
"""A method during whose work the clock of the machine is set forward by two days, then back by four."""
import os, select, time
from pathlib import Path
from certlip.methods import MethodInfo
from certlip.methods.product import bound as product
from certlip.base.record import Kind

INFO = MethodInfo(title="jump", kind=Kind.CERTIFIED, reference="none")

def bound(network):
    before = time.time()
    for jump in ("+2d", "-2d"):
        Path(os.environ["FAKETIME_TIMESTAMP_FILE"]).write_text(jump)
        select.select([], [], [], 0.2)  # libfaketime breaks time.sleep
        assert abs(time.time() - before) > 86400, "the clock did not jump"
    return product(network)
'''


@pytest.mark.skipif(not FAKETIME.exists(), reason="libfaketime is not installed (Debian package faketime)")
@pytest.mark.parametrize("limits", [{}, {"max_seconds": 100}], ids=["here", "in a process of its own"])
def test_a_clock_that_jumps_changes_neither_durations_nor_limits(network: Path, tmp_path: Path, limits: dict) -> None:
    (tmp_path / "jump.py").write_text(JUMP)
    (tmp_path / "now").write_text("+0")
    clock = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_TIMESTAMP_FILE": str(tmp_path / "now"), "FAKETIME_NO_CACHE": "1"}
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = {**clock, "FAKETIME_DONT_FAKE_MONOTONIC": "1", "PYTHONPATH": paths}
    (answer,) = ask(network, {"method": "jump", "module": "jump", **limits}, environment=environment)
    status, _, _, seconds, proved = answer
    assert (status, proved) == ("ok", True)
    assert 0.4 <= seconds < 60
