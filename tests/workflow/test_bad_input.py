"""What goes wrong at the user's end: one sentence, a non-zero exit, no Python trace, and all other results there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from workspace import NETWORKS, PLANNED, Outcome, Workspace

from certlip.base.record import Record


def assert_one_sentence(outcome: Outcome, *words: str) -> None:
    """The run failed, one line of the program's own holds the words, and no Python trace was shown."""
    assert outcome.returncode != 0
    sentences = [line for line in outcome.text.splitlines() if line.startswith("certlip: ")]
    assert any(all(word in line for word in words) for line in sentences), outcome.text
    assert "Traceback" not in outcome.text, outcome.text
    assert '  File "' not in outcome.text, outcome.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda config: config.update(metods=config.pop("methods")), ["'metods'", "'methods'"]),
        (lambda config: config["methods"].update(prodct=None), ["'prodct'", "'product'"]),
        (lambda config: config["methods"].update({"dcp-sum": {"method": "dcp", "gird": [2, 2]}}), ["'gird'", "'grid'"]),
        (lambda config: config["limits"].update(threads=0), ["limits.threads", "greater than or equal to 1"]),
        (lambda config: config.update(networks=["blok"]), ["'blok'", "'block'"]),
    ],
    ids=["key", "method", "option", "value", "network"],
)
def test_a_misspelt_configuration_is_one_sentence_with_the_nearest_word(
    workspace: Workspace, change: Callable[[dict[str, Any]], Any], words: list[str]
) -> None:
    workspace.edit(change)
    assert_one_sentence(workspace.snakemake("--dry-run"), *words)


BROKEN_FACTORIES = {
    "no_such_package.networks:make": "PYTHONPATH",
    "broken_package.networks:make": "not today",
    "broken_factory:takes_other_inputs": "does not take an input of shape (3,)",
}
"""Factory -> what the rows of its network say."""


def test_a_broken_factory_costs_the_rows_of_its_network_and_no_others(workspace: Workspace) -> None:
    (workspace.folder / "broken_package").mkdir()
    (workspace.folder / "broken_package/__init__.py").write_text("raise RuntimeError('not today')\n")
    (workspace.folder / "broken_package/networks.py").touch()
    (workspace.folder / "broken_factory.py").write_text(
        "def takes_other_inputs():\n    import torch\n    return torch.nn.Linear(5, 2)\n"
    )
    names = {f"broken{number}": factory for number, factory in enumerate(BROKEN_FACTORIES)}
    entries = {name: {"factory": factory, "input_shape": [3]} for name, factory in names.items()}
    workspace.edit(lambda networks: networks.update(entries), "networks.yaml")
    workspace.restrict([*names, "block"], {"product": None, "autolip": None})
    outcome = workspace.snakemake()
    assert outcome.returncode == 0, outcome.text
    assert "Traceback" not in outcome.text
    assert Record.load(workspace.folder / "results/bounds/block/product.json").status == "ok"
    for name, factory in names.items():
        record = Record.load(workspace.folder / f"results/bounds/{name}/product.json")
        assert (record.status, record.value) == ("no_data", None)
        assert Record.load(workspace.folder / f"results/bounds/{name}/autolip.json").reason == record.reason
        assert BROKEN_FACTORIES[factory] in record.reason
        assert f"certlip: no_data for {name}: {record.reason}" in outcome.text
    assert (workspace.folder / "results/checks/soundness.json").exists()
    assert workspace.dry_run() == set()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_fetched_weights_are_used_if_their_checksum_is_right_and_they_are_whole(
    finished: Workspace, workspace: Workspace
) -> None:
    """Good weights give the bound of the network that they come from; each kind of bad ones is refused by name."""
    folder = workspace.folder
    good = folder / "good.pt"
    good.write_bytes((finished.folder / "results/networks/block.pt").read_bytes())
    (folder / "cut.pt").write_bytes(good.read_bytes()[:-100])
    (folder / "forged.pt").write_bytes(good.read_bytes())
    files = {name: folder / f"{name}.pt" for name in ("good", "cut", "forged")}
    checksums = {name: sha256(path) for name, path in files.items()} | {"forged": "f" * 64}
    options = {"channels": 2, "image_size": [6, 6], "padding": 1}
    workspace.edit(
        lambda networks: networks.update(
            {
                name: {
                    "architecture": "conv_block",
                    "options": options,
                    "weights": {"url": path.as_uri(), "sha256": checksums[name]},
                }
                for name, path in files.items()
            }
        ),
        "networks.yaml",
    )
    workspace.restrict(list(files), {"product": None})
    outcome = workspace.snakemake()
    assert outcome.returncode == 0, outcome.text
    reasons = {"forged": checksums["good"], "cut": "cut.pt is damaged"}
    for name, words in reasons.items():
        record = Record.load(folder / f"results/bounds/{name}/product.json")
        assert record.status == "no_data"
        assert words in record.reason
        assert f"certlip: no_data for {name}: {record.reason}" in outcome.text
    assert workspace.dry_run() == set()
    fetched = Record.load(folder / "results/bounds/good/product.json")
    assert fetched.value == Record.load(finished.folder / "results/bounds/block/product.json").value


def test_a_certified_value_forged_below_the_lower_one_fails_the_run(copy_of_finished: Workspace) -> None:
    bounds = copy_of_finished.folder / "results" / "bounds" / "block"
    attained = Record.load(bounds / "lower.json").value
    assert attained is not None
    forged = json.loads((bounds / "gram.json").read_text())
    forged["value"] = attained * (1 - 1e-15)
    (bounds / "gram.json").write_text(json.dumps(forged))
    outcome = copy_of_finished.snakemake()
    assert_one_sentence(outcome, "not sound", "block/gram", repr(forged["value"]), "its certificate")
    assert not (copy_of_finished.folder / "results/checks/soundness.json").exists()


def test_a_damaged_block_file_is_named_and_stops_its_merge(copy_of_finished: Workspace) -> None:
    copy_of_finished.edit(lambda config: config["methods"]["dcp-sum"].update(parts=2))
    assert copy_of_finished.snakemake(targets=["results/bounds/block/dcp-sum.json"]).returncode == 0
    solved = copy_of_finished.folder / "results/blocks/block/dcp-sum/1-of-2.npz"
    content = bytearray(solved.read_bytes())
    content[len(content) // 2] ^= 1
    solved.write_bytes(content)
    assert_one_sentence(copy_of_finished.snakemake(targets=["results/bounds/block/dcp-sum.json"]), str(solved.name))


def test_every_row_of_a_network_without_bound_says_why(finished: Workspace) -> None:
    for path in sorted((finished.folder / "results" / "bounds" / "square").glob("*.json")):
        record = Record.load(path)
        assert (record.status, record.value) == ("unsupported", None)
        assert "no bound for" in record.reason


def test_the_planned_methods_are_those_the_tests_expect(finished: Workspace) -> None:
    blocks = {(p.parents[1].name, p.parent.name) for p in (finished.folder / "results/blocks").glob("*/*/*.npz")}
    assert blocks == {(network, method) for network in NETWORKS for method in PLANNED}
