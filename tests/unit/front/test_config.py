"""The configuration: what is wrong is one sentence that names it and the nearest right thing."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from certlip import config
from certlip import schema as schema_files
from certlip.base.errors import ConfigError
from certlip.base.yaml_files import read_mapping
from certlip.config import Config, load, resolve

ROOT = Path(__file__).parents[3]
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
        (put("config", "limits", {"max_seconds": float("inf")}), ["limits, max_seconds", "finite"]),
        (put("config", "methods", "dcp-2x2", "budget", float("inf")), ["methods, dcp-2x2, budget", "finite"]),
        (put("networks", "random", "options", "slope", float("nan")), ["'random', options, slope", "finite"]),
        (put("config", "methods", "a/b", {"method": "product"}), ["method 'a/b'", "files are called by this name"]),
        (put("config", "methods", "a|b", {"method": "product"}), ["method 'a|b'", "letters, digits"]),
        (put("config", "methods", "-b", {"method": "product"}), ["method '-b'", "begin with a letter"]),
        (put("config", "methods", "product", {"parts": 2}), ["'product', parts", "one piece of work"]),
        (put("config", "methods", "dcp-2x2", "chain", True), ["'dcp-2x2'", "chain", "use merge 'folded'"]),
        (
            put("config", "methods", "dcp-2x2", {"method": "dcp", "grid": [[2, 2], [3, 3]], "cuts": "auto"}),
            ["'dcp-2x2', grid", "needs cuts"],
        ),
        (put("config", "methods", "s", {"method": "seqlip", "mode": "exact", "rank": 5}), ["'s', rank", "greedy"]),
        (put("config", "methods", "s", {"method": "dcp", "sweep": {}}), ["'s', sweep", "key: [value, ...]"]),
        (put("config", "methods", "s", {"method": "dcp", "sweep": {"merge": "sum"}}), ["'s', sweep", "merge"]),
        (put("config", "methods", "s", {"method": "dcp", "sweep": {"merge": ["sm"]}}), ["'s-sm'", "merge", "'sum'"]),
        (put("config", "methods", "s", {"sweep": {"method": ["gram", "gram"]}}), ["two", "'s-gram'"]),
        (put("config", "methods", "dcp", {"sweep": {"grid": [[2, 2]]}}), ["'dcp-2x2'", "there already"]),
        (put("config", "methods", "s{}", {"sweep": {"a": [1], "b": [2]}}), ["'s{}'", "one {} for each"]),
        (put("networks", "random", "sweep", {"experiment.name.x": [1]}), ["'random', sweep", "leads through 'name'"]),
        (put("networks", "small", "train", "epochs", 0), ["'small'", "train.epochs", "0"]),
        (put("networks", "small", "train", "optimizer", "lion"), ["train.optimizer", "'lion'"]),
        (put("networks", "small", None), ["'small'"]),
        (put("networks", "small", {}), ["'small'", "one of architecture, factory, torchvision, onnx and npz"]),
        (put("networks", "small", {"factory": "a:b"}), ["'small'", "a factory needs input_shape"]),
        (put("networks", "small", {"torchvision": "resnet18"}), ["'small'", "torchvision needs input_shape"]),
        (put("networks", "small", {"onnx": "a.onnx", "npz": "a.npz"}), ["'small'", "give one of architecture"]),
        (
            put("networks", "small", {"architecture": "mlp", "origin": "somewhere"}),
            ["'small'", "origin is of a file: give it with onnx or npz"],
        ),
        (
            put("networks", "small", {"onnx": "a.onnx", "train": {"dataset": "digits"}}),
            ["'small'", "onnx and npz bring their weights"],
        ),
        (put("networks", "small", {"npz": "a.npz", "orthogonal": True}), ["'small'", "orthogonal is for the random"]),
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
        (
            put("networks", "small: {architecture: mlp}\nb: {}\nsmall: {}"),
            ["networks.yaml, line 3", "'small'", "twice"],
        ),
        (put("networks", "small:\n  seed: 1\n  architecture: mlp\n  seed: 2"), ["line 4", "'seed'", "twice"]),
        (put("config", "methods", "m", {"module": "no.such.module"}), ["'m'", "no.such.module", "cannot be imported"]),
        (
            put("config", "methods", "m", {"module": "certlip.proof.norms"}),
            ["'m'", "certlip.proof.norms", "must define INFO"],
        ),
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
        assert config._entries(str(path), ".", model)
    else:
        assert load(path).networks


def test_what_an_entry_takes_over_and_says_itself_stands_there_once(tmp_path: Path) -> None:
    (tmp_path / "n.yaml").write_text("a: &a {seed: 1, architecture: mlp}\nb: {<<: *a, seed: 2}\n")
    assert read_mapping(tmp_path / "n.yaml")["b"] == {"architecture": "mlp", "seed": 2}


def test_a_sweep_stands_for_an_entry_each_combination_named_by_its_values(tmp_path: Path) -> None:
    sweep = {"method": "dcp", "cuts": "auto", "sweep": {"grid": [[2, 2], "auto"], "merge": ["sum", "folded"]}}
    found = resolved(tmp_path, put("config", "methods", {"s": sweep}))
    assert list(found.methods) == ["s-2x2-sum", "s-2x2-folded", "s-auto-sum", "s-auto-folded"]
    assert found.options("s-2x2-folded")["merge"] == "folded"
    assert found.options("s-auto-sum")["grid"] == "auto"


def test_a_swept_network_gets_the_value_at_each_place_and_its_name_where_it_says(tmp_path: Path) -> None:
    def change(files: Files) -> None:
        places = "options.channels, seed, experiment.x"
        files["networks"]["w-c{}"] = {**NETWORKS["random"], "sweep": {places: [1, 12]}}
        files["config"]["networks"] = ["w-*", "small"]

    found = resolved(tmp_path, change)
    assert list(found.networks) == ["w-c1", "w-c12", "small"]
    network = found.networks["w-c12"]
    assert network.experiment is not None
    assert (network.options, network.seed, network.experiment.x) == ({"channels": 12}, 12, 12)


def test_the_schemas_for_editors_are_those_of_the_models() -> None:
    for name, schema in schema_files.schemas().items():
        written = json.loads((ROOT / "config" / "schema" / f"{name}.json").read_text())
        assert written == schema, "run python -m certlip.schema"
    assert {path.stem for path in (ROOT / "config" / "schema").iterdir()} == set(schema_files.schemas())


@pytest.mark.parametrize("path", sorted((ROOT / "config").glob("*.yaml")), ids=lambda path: path.name)
def test_every_configuration_that_is_shipped_names_a_schema_that_knows_its_keys(path: Path) -> None:
    first, _, text = path.read_text().partition("\n")
    schema = json.loads((path.parent / first.rpartition("=")[2]).read_text())
    content = yaml.safe_load(text)
    if "additionalProperties" in schema and isinstance(schema["additionalProperties"], dict):
        assert all(set(entry) <= set(schema["additionalProperties"]["properties"]) for entry in content.values())
    else:
        assert set(content) <= set(schema["properties"])
        known = set(schema["$defs"]["Method"]["properties"])
        assert all(set(entry or {}) <= known for entry in content["methods"].values())


def test_a_configuration_that_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml does not exist"):
        load("nowhere.yaml")


def test_a_method_runs_on_the_networks_it_names_and_on_all_if_it_names_none(tmp_path: Path) -> None:
    found = resolved(tmp_path, put("config", "methods", "lower", {"networks": ["sm*"]}))
    assert [pair for pair in found.rows if pair[1] == "lower"] == [("small", "lower")]
    assert {("small", "product"), ("random", "product")} < set(found.rows)
    assert len(found.rows) == 5
    assert "networks" not in found.options("lower")


SECTION = {"networks": {"sm*": [0.3, 0.1], "small": [0.2]}, "methods": {"lipsdp": None, "naive": {"method": "product"}}}


def accuracy(**changes: Any) -> Callable[[Files], None]:
    return put("config", "certified_accuracy", {**SECTION, **changes})


def test_certified_accuracy_has_radii_by_network_and_methods_of_its_own(tmp_path: Path) -> None:
    found = resolved(
        tmp_path, accuracy(methods={**SECTION["methods"], "far": {"method": "torus", "networks": ["small"]}})
    )
    assert found.radii == {"small": [0.1, 0.2, 0.3]}
    assert found.accuracy_rows == [("small", "lipsdp"), ("small", "naive"), ("small", "far")]
    assert found.margin_plugin("naive").__name__ == "certlip.methods.product"
    assert found.certified_accuracy is not None
    assert (found.certified_accuracy.images, found.certified_accuracy.attack.n_steps) == (200, 40)
    none = resolved(tmp_path)
    assert (none.radii, none.accuracy_rows, none.margin_methods) == ({}, [], {})


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (accuracy(networks={"smal": [0.1]}), ["certified_accuracy, networks", "'smal'", "did you mean 'small'"]),
        (accuracy(networks={"random": [0.1]}), ["'random' has no images", "give it a dataset"]),
        (accuracy(networks={"small": []}), ["'small'", "give radii"]),
        (accuracy(networks={"small": [0.0]}), ["certified_accuracy.networks.small.0", "0.0"]),
        (accuracy(networks={}), ["certified_accuracy.networks"]),
        (accuracy(methods={}), ["certified_accuracy.methods"]),
        (accuracy(methods={"lipsp": None}), ["'lipsp'", "did you mean 'lipsdp'"]),
        (accuracy(methods={"lipsdp": {"rtoll": 1}}), ["'rtoll'", "did you mean 'rtol'"]),
        (accuracy(methods={"lipsdp": {"parts": 2}}), ["'lipsdp', parts", "one job"]),
        (accuracy(methods={"lipsdp": {"networks": ["nowhere"]}}), ["method 'lipsdp', networks", "'nowhere'"]),
        (accuracy(methods={"lipsdp": {"local_budget": -1}}), ["local_budget", "-1"]),
        (accuracy(methods={"a/b": {"method": "lipsdp"}}), ["method 'a/b'", "files are called by this name"]),
        (accuracy(image=3), ["certified_accuracy.image", "did you mean 'images'"]),
        (accuracy(attack={"n_step": 3}), ["attack.n_step", "did you mean 'n_steps'"]),
        (
            put("networks", "small", "standardise", {"means": [0.5], "spread": 0.5}),
            ["'small'", "trained on pixels as they are"],
        ),
        (put("networks", "random", "standardise", {"means": [], "spread": 0.5}), ["standardise.means"]),
        (put("networks", "random", "standardise", {"means": [0.5], "spread": 0}), ["standardise.spread"]),
    ],
)
def test_a_wrong_section_of_certified_accuracy_is_named(
    change: Callable[[Files], None], parts: list[str], tmp_path: Path
) -> None:
    check_refusal(change, parts, tmp_path)


def test_pixels_are_standardised_by_channel() -> None:
    network = config.Network.model_validate({"npz": "a.npz", "standardise": {"means": [0.5, 0.25], "spread": 0.5}})
    assert network.standardise is not None
    pixels = np.ones((3, 2, 1, 4), np.float32)
    standardised = network.standardise.applied(pixels)
    assert standardised.dtype == np.float64
    assert standardised[0, :, 0, 0].tolist() == [1.0, 1.5]
    assert network.unit == 0.5
    with pytest.raises(ConfigError, match="2 means do not fit 3 channels"):
        network.standardise.applied(np.ones((1, 3, 2, 2)))
