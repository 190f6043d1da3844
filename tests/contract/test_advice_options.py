"""Advice about configurations, options and commands is followed: what was refused is taken then."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from advice import follow, value_of
from typer.testing import CliRunner

from certlip import cli, config, zoo
from certlip.base.errors import ConfigError
from certlip.base.validation import validate
from certlip.base.yaml_files import read_mapping
from certlip.methods import check_options, load
from certlip.network import Activation, Conv, Dense, Network
from certlip.sdp import solve, solvers

ROOT = Path(__file__).parents[2]


def network(factor: float = 1.0) -> Network:
    rng = np.random.default_rng(0)
    layers = (
        Dense("first", factor * rng.standard_normal((4, 3)), np.zeros(4)),
        Activation("relu", "relu"),
        Dense("last", factor * rng.standard_normal((2, 4)), np.zeros(2)),
    )
    return Network(layers, (3,))


def configured(methods: dict[str, Any]) -> config.Config:
    """config/quick.yaml with these methods."""
    return config.resolve({**read_mapping(ROOT / "config" / "quick.yaml"), "methods": methods}, ROOT)


def entry(described: dict[str, Any]) -> config.Network:
    """An entry of networks.yaml."""
    return validate(config.Network, described, "network 'mine'")


TRAINED = {"train": {"dataset": "digits"}, "weights": {"url": "file:///w.pt", "sha256": "0" * 64}}

CONFIGURATIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "it is one piece of work; leave parts out": ({"product": {"parts": 2}}, {"product": {}}),
    "use letters, digits, '.', '_' and '-' and begin with a letter or digit": (
        {"a/b": {"method": "product"}},
        {"a-b": {"method": "product"}},
    ),
    "sweep: write it as key: [value, ...]": (
        {"s": {"method": "dcp", "sweep": {"merge": "sum"}}},
        {"s": {"method": "dcp", "sweep": {"merge": ["sum"]}}},
    ),
    "its sweep makes {}, which is there already; rename one": (
        {"dcp-2x2": {"method": "dcp"}, "dcp": {"method": "dcp", "sweep": {"grid": [[2, 2]]}}},
        {"whole": {"method": "dcp"}, "dcp": {"method": "dcp", "sweep": {"grid": [[2, 2]]}}},
    ),
    "chain: merge {} has no metric to hand from segment to segment; use merge {}": (
        {"dcp": {"chain": True}},
        {"dcp": {"chain": True, "merge": "folded"}},
    ),
}
"""Advice -> methods that are refused, and those that it makes of them."""


@pytest.mark.parametrize("advice", CONFIGURATIONS)
def test_a_configuration_is_taken_when_the_advice_is_followed(advice: str) -> None:
    wrong, right = CONFIGURATIONS[advice]
    follow(advice, lambda: configured(wrong), lambda: configured(right))


@pytest.mark.parametrize(
    ("advice", "wrong", "right"),
    [
        (
            "give one of architecture, factory, torchvision, onnx and npz",
            {},
            [
                {"architecture": "cnn1"},
                {"factory": "a:b", "input_shape": [3]},
                {"torchvision": "vgg16", "input_shape": [3, 224, 224]},
                {"onnx": "net.onnx"},
                {"npz": "net.npz"},
            ],
        ),
        (
            "give either train or weights",
            {"architecture": "cnn1", **TRAINED},
            [{"architecture": "cnn1", key: value} for key, value in TRAINED.items()],
        ),
        (
            "onnx and npz bring their weights: leave out train, weights and options",
            {"onnx": "net.onnx", "weights": TRAINED["weights"]},
            [{"onnx": "net.onnx"}],
        ),
        (
            "origin is of a file: give it with onnx or npz",
            {"architecture": "cnn1", "origin": "somewhere"},
            [{"onnx": "net.onnx", "origin": "somewhere"}, {"npz": "net.npz", "origin": "somewhere"}],
        ),
    ],
)
def test_of_two_keys_either_is_taken(advice: str, wrong: dict[str, Any], right: list[dict[str, Any]]) -> None:
    for described in right:
        follow(advice, lambda: entry(wrong), lambda described=described: entry(described))


@pytest.mark.parametrize(
    ("advice", "method", "wrong", "right"),
    [
        (
            "use one grid, or 'auto'",
            "dcp",
            {"grid": [[2, 2], [3, 3]], "cuts": "auto"},
            [{"grid": [2, 2], "cuts": "auto"}, {"grid": "auto", "cuts": "auto"}],
        ),
        (
            "leave rank out, or use mode: greedy",
            "seqlip",
            {"mode": "exact", "rank": 5},
            [{"mode": "exact"}, {"mode": "greedy", "rank": 5}],
        ),
    ],
)
def test_options_go_together_when_the_advice_is_followed(
    advice: str, method: str, wrong: dict[str, Any], right: list[dict[str, Any]]
) -> None:
    def check(options: dict[str, Any]) -> dict[str, Any]:
        return check_options(method, load(method), options)

    for options in right:
        follow(advice, lambda: check(wrong), lambda options=options: check(options))


def test_the_word_that_was_meant_is_one_that_is_taken() -> None:
    def bound(**options: Any) -> float:
        return value_of(network(), None, options.pop("method", "dcp"), **options)

    for wrong, value in (("method", "lipsd"), ("gird", (1, 1)), ("merg", "sum")):
        with pytest.raises(ConfigError, match="did you mean ") as refusal:
            bound(**{wrong: value})
        meant = str(refusal.value).split("'")[-2]
        assert bound(**({wrong: meant} if wrong == "method" else {meant: value})) > 0


def test_a_key_that_stands_there_twice_is_removed_once(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("a: 1\nb: 2\na: 3\n")
    found = follow(
        "{} stands there twice; remove one",
        lambda: read_mapping(path),
        lambda: (path.write_text("a: 1\nb: 2\n"), read_mapping(path))[1],
    )
    assert found == {"a": 1, "b": 2}


def test_a_factory_is_found_on_the_path_and_by_module_and_function(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "advised_nets.py").write_text("from torch import nn\n\n\ndef make():\n    return nn.Linear(2, 3)\n")
    advice = "write package.module:function and put the package on PYTHONPATH"

    def with_the_path() -> Any:
        monkeypatch.syspath_prepend(tmp_path)  # what PYTHONPATH does to a new process
        return zoo.from_factory("advised_nets:make")

    follow(advice, lambda: zoo.from_factory("advised_nets:make"), with_the_path)
    follow(advice, lambda: zoo.from_factory("advised_nets"), lambda: zoo.from_factory("advised_nets:make"))


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., str]:
    """Runs ``certlip bound`` on a network and raises what it raises."""
    network().save(tmp_path / "net.npz")

    def run(*arguments: str) -> str:
        path = str(tmp_path / "net.npz")
        return CliRunner().invoke(cli.app, ["bound", path, *arguments], catch_exceptions=False).output

    return run


def test_a_command_is_done_when_the_advice_is_followed(command: Callable[..., str], tmp_path: Path) -> None:
    dcp = ["--method", "dcp", "-o"]
    option = follow("write it as name=value", lambda: command(*dcp, "grid"), lambda: command(*dcp, "grid=1x1"))
    estimate = ["--method", "autolip"]
    without = follow(
        "leave --certificate out",
        lambda: command(*estimate, "--certificate", str(tmp_path / "c.npz")),
        lambda: command(*estimate),
    )
    assert "certified by dcp" in option
    assert "estimate by autolip" in without
    several = ["--method", "product,liplt"]
    follow(
        "--certificate is for one method; use --save FOLDER for several",
        lambda: command(*several, "--certificate", str(tmp_path / "c.npz")),
        lambda: command(*several, "--save", str(tmp_path / "all")),
    )
    assert (tmp_path / "all" / "product.npz").exists()
    assert (tmp_path / "all" / "liplt.npz").exists()


def test_an_exact_search_that_is_too_wide_is_greedy_or_allowed_more_gates() -> None:
    advice = "the exact search takes {} (max_gates), or use mode: greedy"
    for right in ({"mode": "greedy"}, {"mode": "exact", "max_gates": 4}):
        follow(
            advice,
            lambda: value_of(network(), None, "seqlip", mode="exact", max_gates=3),
            lambda right=right: value_of(network(), None, "seqlip", **right),
        )


def test_weights_that_overflow_are_divided() -> None:
    follow(
        "divide a layer's weights by a constant",
        lambda: value_of(network(1e200)),
        lambda: value_of(network(1e200 / 1e100)),
    )
    module = torch.nn.Sequential(*[torch.nn.Linear(2, 2).double() for _ in range(3)])

    def estimate(factor: float) -> float:
        with torch.no_grad():
            for layer in module:
                layer.weight.copy_(factor * torch.eye(2, dtype=torch.float64))
        return value_of(module, (2,), "autolip")

    follow("overflows; rescale the weights", lambda: estimate(1e150), lambda: estimate(1.0))
    first, last = (layer.weight for layer in network().layers if isinstance(layer, Dense))
    follow("scale the network down", lambda: solve([1e200 * first, last]), lambda: solve([first, last]))


def test_a_grid_whose_patches_read_only_padding_is_made_coarser() -> None:
    layers = (Conv("conv", np.ones((1, 1, 1, 1)), np.zeros(1), padding=(2, 2, 2, 2)), Activation("relu", "relu"))
    padded = Network((*layers, Conv("next", np.ones((1, 1, 1, 1)), np.zeros(1))), (1, 4, 4))
    follow(
        "use a coarser grid",
        lambda: value_of(padded, None, "dcp", grid=(8, 8)),
        lambda: value_of(padded, None, "dcp", grid=(2, 2)),
    )


def test_a_finer_grid_has_programs_that_some_solver_takes() -> None:
    follow("use a finer grid", lambda: solvers.choose("auto", 10**9), lambda: solvers.choose("auto", 100))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_without_a_cuda_device_the_processor_is_used() -> None:
    weights = [layer.weight for layer in network().layers if isinstance(layer, Dense)]
    follow(
        "solver structured: torch finds no {} device here; use device='cpu'",
        lambda: solve(weights, solver="structured", device="cuda"),
        lambda: solve(weights, solver="structured", device="cpu"),
    )
    maps = Network((Conv("conv", np.ones((1, 1, 2, 2)), np.zeros(1)),), (1, 4, 4))
    follow(
        "torch finds no cuda device here; use device='cpu'",
        lambda: value_of(maps, None, "torus", device="cuda"),
        lambda: value_of(maps, None, "torus", device="cpu"),
    )


def test_matrices_that_are_no_network_are_checked_for_nan_and_shapes() -> None:
    good = [np.ones((2, 3)), np.ones((1, 2))]
    for bad in ([np.full((2, 3), np.nan), good[1]], [np.ones(3), good[1]]):
        follow("check them for NaN and for their shapes", lambda bad=bad: solve(bad), lambda: solve(good))


def test_a_licence_of_mosek_is_looked_for_where_it_should_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is no licence is another error than none: both places are read."""
    monkeypatch.delenv("MOSEKLM_LICENSE_FILE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    adapter = solvers.load("mosek")
    adapter.unavailable.cache_clear()
    if adapter.unavailable() is None:
        pytest.skip("a licence of MOSEK is here")
    assert "put one at ~/mosek/mosek.lic or name it in MOSEKLM_LICENSE_FILE" in adapter.unavailable()
    nowhere = adapter.unavailable()
    (tmp_path / "mosek").mkdir()
    (tmp_path / "mosek" / "mosek.lic").write_text("no licence\n")
    adapter.unavailable.cache_clear()
    at_home = adapter.unavailable()
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setenv("MOSEKLM_LICENSE_FILE", str(tmp_path / "mosek" / "mosek.lic"))
    adapter.unavailable.cache_clear()
    named = adapter.unavailable()
    adapter.unavailable.cache_clear()
    assert nowhere not in (at_home, named)
