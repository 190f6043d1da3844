"""The configuration: what is wrong is one sentence that names it and the nearest right thing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from certlip import config
from certlip.config import Config, load, resolve
from certlip.errors import ConfigError

ROOT = Path(__file__).parents[2]
BASE = {
    "networks": ["small", "random"],
    "methods": {"product": None, "dcp-2x2": {"method": "dcp", "grid": [2, 2]}, "lower": None},
    "tables": ["bounds"],
    "figures": ["tightness"],
}
NETWORKS = {
    "small": {"architecture": "digits_cnn", "train": {"dataset": "digits", "epochs": 2}},
    "random": {"architecture": "conv_block", "options": {"channels": 2}, "experiment": {"name": "sweep", "x": 2}},
    "unused": {"architecture": "cnn1"},
}
DATASETS = {"digits": {"dataset": "digits"}}

Files = dict[str, Any]


def resolved(folder: Path, change: Callable[[Files], object] = lambda files: None) -> Config:
    """The configuration after a change of its three files."""
    files = copy.deepcopy({"config": BASE, "networks": NETWORKS, "datasets": DATASETS})
    change(files)
    for name in ("networks", "datasets"):
        content = files[name]
        (folder / f"{name}.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    places = {"networks_file": "networks.yaml", "datasets_file": "datasets.yaml"}
    return resolve({**places, **files["config"]}, folder)


def put(*place_and_value: Any) -> Callable[[Files], None]:
    """Put a value at a place of the files."""
    *place, last, value = place_and_value

    def change(files: Files) -> None:
        for key in place:
            files = files[key]
        files[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (put("config", "metods", {}), ["metods", "did you mean 'methods'"]),
        (
            put("config", "benchmarks", {"layer_norms": {"networks": ["smal"]}}),
            ["benchmark 'layer_norms', networks", "'smal'", "did you mean 'small'"],
        ),
        (put("config", "limits", {"max_second": 3}), ["limits.max_second", "did you mean 'max_seconds'"]),
        (put("config", "networks", ["smal"]), ["'smal'", "did you mean 'small'"]),
        (put("config", "methods", "prodct", None), ["unknown method 'prodct'", "did you mean 'product'"]),
        (put("config", "methods", "mine", {"method": "dpc"}), ["unknown method 'dpc'", "did you mean 'dcp'"]),
        (put("config", "methods", "dcp-2x2", "gird", [2, 2]), ["dcp-2x2", "'gird'", "did you mean 'grid'"]),
        (put("config", "methods", "dcp-2x2", "solver", "scss"), ["option solver", "scs", "'scss'"]),
        (put("config", "methods", "dcp-2x2", "merge", "summ"), ["option merge", "'sum'", "'summ'"]),
        (put("config", "tables", ["bound"]), ["tables", "did you mean 'bounds'"]),
        (put("config", "figures", ["tightnes"]), ["figures", "did you mean 'tightness'"]),
        (put("networks", "unused", {"architecure": "cnn1"}), ["'unused'", "did you mean 'architecture'"]),
        (put("networks", "small", "train", "epoch", 3), ["'small'", "train.epoch", "did you mean 'epochs'"]),
        (put("networks", "random", "experiment", {"nam": "x", "x": 1}), ["experiment.nam", "did you mean 'name'"]),
        (put("networks", "random", "architecture", "conv_blok"), ["'random'", "did you mean 'conv_block'"]),
        (put("networks", "small", "train", "dataset", "digit"), ["'small'", "did you mean 'digits'"]),
        (put("datasets", "digits", {"dataset": "digts"}), ["'digits'", "did you mean 'digits'"]),
        (put("datasets", "digits", {"datast": "digits"}), ["'digits'", "did you mean 'dataset'"]),
    ],
)
def test_a_misspelt_name_is_named_with_the_nearest_right_one(
    change: Callable[[Files], None], parts: list[str], tmp_path: Path
) -> None:
    check_refusal(change, parts, tmp_path)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (put("config", "limits", {"max_seconds": "soon"}), ["limits.max_seconds", "'soon'"]),
        (put("config", "limits", {"max_seconds": -1}), ["limits.max_seconds", "-1"]),
        (put("config", "limits", {"threads": 0}), ["limits.threads", "0"]),
        (put("config", "networks", []), ["networks"]),
        (put("config", "networks", "small"), ["networks", "'small'"]),
        (put("config", "methods", {}), ["methods"]),
        (put("config", "methods", "product", 3), ["methods.product", "3"]),
        (put("config", "methods", "dcp-2x2", "grid", [0, 2]), ["option grid"]),
        (put("config", "methods", "dcp-2x2", "grid", "two"), ["option grid", "'two'"]),
        (put("config", "methods", "dcp-2x2", "rtol", 2), ["option rtol", "2"]),
        (put("config", "seed", -1), ["seed", "-1"]),
        (put("networks", "small", "train", "epochs", 0), ["'small'", "train.epochs", "0"]),
        (put("networks", "small", "train", "optimizer", "lion"), ["train.optimizer", "'lion'"]),
        (put("networks", "small", None), ["'small'"]),
        (put("networks", "small", {}), ["'small'", "either an architecture or a factory"]),
        (put("networks", "small", {"factory": "a:b"}), ["'small'", "a factory needs input_shape"]),
        (
            put("networks", "small", "weights", {"url": "file:///w.pt", "sha256": "0" * 64}),
            ["'small'", "either train or weights"],
        ),
        (
            put("networks", "random", "weights", {"url": "file:///w.pt", "sha256": "12ab"}),
            ["'random'", "weights.sha256", "'12ab'"],
        ),
    ],
)
def test_a_value_that_cannot_be_is_named(change: Callable[[Files], None], parts: list[str], tmp_path: Path) -> None:
    check_refusal(change, parts, tmp_path)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (put("config", "networks_file", "nowhere.yaml"), ["nowhere.yaml does not exist"]),
        (put("networks", "small: [1\n b: }"), ["networks.yaml is not valid YAML"]),
        (put("networks", "- small"), ["networks.yaml must be a mapping"]),
        (put("networks", ""), ["networks.yaml must be a mapping"]),
        (put("datasets", "\x00"), ["datasets.yaml is not valid YAML"]),
        (put("config", "methods", "m", {"module": "no.such.module"}), ["'m'", "no.such.module", "cannot be imported"]),
        (put("config", "methods", "m", {"module": "certlip.norms"}), ["'m'", "certlip.norms", "must define INFO"]),
    ],
)
def test_a_file_or_module_that_is_missing_or_broken_is_named(
    change: Callable[[Files], None], parts: list[str], tmp_path: Path
) -> None:
    check_refusal(change, parts, tmp_path)


def check_refusal(change: Callable[[Files], None], parts: list[str], folder: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        resolved(folder, change)
    sentence = str(refusal.value)
    assert "\n" not in sentence
    assert all(part in sentence for part in parts), sentence


def test_what_is_right_is_complete_with_defaults(tmp_path: Path) -> None:
    found = resolved(tmp_path)
    assert list(found.networks) == ["small", "random"]
    assert found.options("dcp-2x2")["grid"] == (2, 2)
    assert found.options("dcp-2x2")["merge"] == "sum"
    assert found.planned() == ["dcp-2x2"]
    assert found.used_datasets() == ["digits"]
    assert found.takes("lower", "data")
    assert not found.takes("product", "data")
    assert found.networks["random"].module_name == "certlip.zoo.conv_block"
    assert found.networks["random"].images is None


def test_files_in_the_working_directory_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    resolved(tmp_path / "other")
    here = {**NETWORKS, "small": {"architecture": "mlp", "options": {"widths": [4, 3]}}}
    (tmp_path / "networks.yaml").write_text(yaml.safe_dump(here))
    monkeypatch.chdir(tmp_path)
    found = resolve({**BASE, "networks_file": "networks.yaml", "datasets_file": "datasets.yaml"}, tmp_path / "other")
    assert found.networks["small"].architecture == "mlp"


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_every_configuration_that_is_shipped_resolves(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    if path.name in ("networks.yaml", "datasets.yaml"):
        model = config.Network if path.name == "networks.yaml" else config.Dataset
        assert all(model.model_validate(entry) for entry in yaml.safe_load(path.read_text()).values())
    else:
        assert load(path).networks


def test_a_configuration_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml does not exist"):
        load("nowhere.yaml")


def test_a_method_runs_on_the_networks_it_names_and_on_all_if_it_names_none(tmp_path: Path) -> None:
    found = resolved(tmp_path, put("config", "methods", "lower", {"networks": ["sm*"]}))
    assert [pair for pair in found.rows if pair[1] == "lower"] == [("small", "lower")]
    assert {("small", "product"), ("random", "product")} < set(found.rows)
    assert len(found.rows) == 5
    assert "networks" not in found.options("lower")
