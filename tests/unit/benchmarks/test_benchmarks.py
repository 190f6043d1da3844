"""Every benchmark: what it measures and refuses, on inputs small enough for a test."""

from __future__ import annotations

import re

import numpy as np
import oracle
import pandas as pd
import pytest

from certlip import benchmarks
from certlip.base import plugins
from certlip.base.errors import ConfigError, Refusal
from certlip.base.files import write_refusal
from certlip.benchmarks import solvers
from certlip.benchmarks._problems import make_problem
from certlip.collect import read_rows
from certlip.layer_norms import _shapes
from certlip.network import Activation, Conv, Dense, Flatten, Network

LAYERS = {
    "padded": _shapes.ConvShape(2, 3, 3, 6, padding=1),
    "strided": _shapes.ConvShape(1, 2, 3, 7, stride=2, published={"gram": 2.5}),
}
TINY = {
    "gram_speed": {"shapes": ["tiny"]},
    "layer_norms": {"shapes": ["tiny"]},
    "looseness": {"depths": [2], "sides": [1, 2], "n_convolutions": [0], "merges": ["sum", "folded"]},
    "solvers": {"problems": ["chain-1x4"], "solvers": ["structured"], "max_seconds": 60.0},
    "workers": {"workers": [1, 2], "channels": 1, "side": 9},
}


@pytest.fixture(autouse=True)
def tiny_layers(monkeypatch):
    monkeypatch.setitem(_shapes.GROUPS, "tiny", LAYERS)


def documented_columns(name):
    """The names that the docstring of `run` lists after its first colon, or the module's list of them."""
    module = plugins.load("certlip.benchmarks", name)
    return getattr(module, "COLUMNS", None) or re.findall(r"\w+", re.split(r"[:.]", module.run.__doc__)[1])


def measure(problem="chain-1x4", **options):
    return solvers.run(problems=[problem], **{"max_seconds": 60.0, **options})


@pytest.mark.parametrize("name", benchmarks.names())
def test_every_benchmark_gives_its_documented_columns_and_survives_the_file(name, tmp_path):
    rows = benchmarks.run(name, TINY[name])
    assert list(rows.columns) == documented_columns(name)
    assert (rows["seconds"] > 0).all()
    benchmarks.save(rows, tmp_path / f"{name}.csv")
    pd.testing.assert_frame_equal(read_rows(tmp_path / f"{name}.csv"), rows, check_dtype=False)


@pytest.mark.parametrize("name", benchmarks.names())
def test_every_benchmark_runs_without_options(name):
    options = benchmarks.check_options(name, {})
    assert None not in {key: value for key, value in options.items() if key != "solvers"}.values()
    assert benchmarks.check_options(name, options) == options


@pytest.mark.parametrize("name", benchmarks.names())
def test_an_unknown_option_is_refused_by_name(name):
    with pytest.raises(ConfigError, match=rf"benchmark '{name}' has no option 'sed'; did you mean 'seed'\?"):
        benchmarks.check_options(name, {"sed": 1})


@pytest.mark.parametrize(
    ("name", "options", "culprit"),
    [
        ("layer_norms", {"shapes": ["resnet81"]}, "shapes"),
        ("gram_speed", {"shapes": "randn"}, "shapes"),
        ("solvers", {"threads": [0.5]}, "threads"),
        ("solvers", {"max_seconds": "long"}, "max_seconds"),
    ],
)
def test_an_ill_typed_option_is_refused_by_name(name, options, culprit):
    with pytest.raises(ConfigError, match=rf"benchmark '{name}', option {culprit}: "):
        benchmarks.check_options(name, options)


def test_an_unknown_benchmark_is_answered_by_the_nearest():
    with pytest.raises(ConfigError, match="did you mean 'layer_norms'"):
        benchmarks.check_options("layer_norm", {})


def test_an_unknown_problem_or_solver_is_refused():
    with pytest.raises(ConfigError, match="problem 'chain-2' is none of chain-LxN, conv-C"):
        measure("chain-2")
    with pytest.raises(ConfigError, match="did you mean 'structured'"):
        measure(solvers=["structure"])


def test_layers_are_measured_once_by_every_rival_with_what_a_paper_prints():
    rows = benchmarks.run("layer_norms", TINY["layer_norms"])
    assert rows["layer"].unique().tolist() == list(LAYERS)
    assert not rows.duplicated(["layer", "method"]).any()
    assert rows[rows["published"].notna()][["layer", "method", "published"]].to_numpy().tolist() == [
        ["strided", "gram", 2.5]
    ]
    assert (rows["ratio"] == rows["value"] / rows["norm"]).all()


def test_convolutions_of_a_network_are_measured_with_their_own_weights(tmp_path):
    conv = _shapes.ConvShape(1, 2, 3, 6, padding=1).layer("features.0", 3)
    network = Network((conv, Activation("relu", "relu"), _shapes.ConvShape(2, 3, 2, 6).layer("last")), (1, 6, 6))
    network.save(tmp_path / "mine.npz")
    rows = benchmarks.run("layer_norms", {"shapes": [], "networks": [str(tmp_path / "mine.npz")]})
    assert rows["layer"].unique().tolist() == ["mine conv1", "mine conv2"]
    true = np.linalg.norm(oracle.dense_matrix(conv, (1, 6, 6)), 2)
    certified = rows[(rows["layer"] == "mine conv1") & (rows["kind"] == "certified")]
    assert (certified["value"] >= true).all()
    assert certified["value"].min() <= true * (1 + 1e-9)


def test_a_network_that_waits_for_its_data_is_left_out_and_named(tmp_path, capsys):
    write_refusal(tmp_path / "mine.npz", Refusal("no_data", "mine: no images"))
    rows = benchmarks.run("layer_norms", {**TINY["layer_norms"], "networks": [str(tmp_path / "mine.npz")]})
    assert rows["layer"].unique().tolist() == list(LAYERS)
    assert capsys.readouterr().out == "mine is left out: mine: no images\n"


def test_certified_rivals_are_never_below_the_true_norm():
    rows = benchmarks.run("layer_norms", {**TINY["layer_norms"], "seed": 5})
    for layer, shape in LAYERS.items():
        true = np.linalg.norm(oracle.dense_matrix(shape.layer(layer, 5), shape.input_shape), 2)
        assert (rows[(rows["layer"] == layer) & (rows["kind"] == "certified")]["value"] >= true).all()


def test_gram_iteration_is_timed_against_the_formula_on_the_same_layer():
    rows = benchmarks.run("gram_speed", TINY["gram_speed"])
    assert rows["layer"].tolist() == list(LAYERS)
    assert (rows["speedup"] == rows["naive_seconds"] / rows["seconds"]).all()
    assert (abs(rows["value"] / rows["naive_value"] - 1) < 1e-10).all()


def test_a_certified_bound_of_a_problem_is_never_below_what_its_network_attains():
    chain = make_problem("chain-1x4", {}, 3)
    first, last = (Dense(name, weight, np.zeros(4)) for name, weight in zip("ab", chain.weights, strict=True))
    network = Network((first, Activation("relu", "relu"), last), (4,))
    rows = measure(solvers=["structured", "scs"], seed=3)
    assert rows["status"].tolist() == ["ok", "ok"]
    assert (rows["bound"] >= oracle.attained_norm(network)).all()
    assert rows["distance"].min() == 0
    assert (rows["distance"] == rows["bound"] / rows["bound"].min() - 1).all()


def test_problems_have_the_order_their_name_says():
    orders = {"chain-1x4": 8, "chain-3x5": 20, "conv-2": 100 + 2 * 64}
    for problem, order in orders.items():
        chain = make_problem(problem, {}, 0)
        assert chain.weights[0].shape[1] + sum(weight.shape[0] for weight in chain.weights[:-1]) == order


def test_a_solver_that_cannot_run_is_a_row_with_a_status_beside_the_others(monkeypatch, tmp_path):
    monkeypatch.setenv("MOSEKLM_LICENSE_FILE", str(tmp_path / "none.lic"))
    monkeypatch.setenv("HOME", str(tmp_path))
    rows = measure(solvers=["mosek", "structured"])
    assert rows["solver"].tolist() == ["mosek", "structured"]
    assert rows["status"].tolist() == ["solver_failed", "ok"]
    numbers = ["bound", "distance", "seconds", "peak_mb", "iterations", "minimum_eigenvalue", "slack"]
    assert rows.iloc[0][numbers].isna().all()


def test_a_solver_stopped_by_the_time_limit_is_a_row_with_that_status_and_its_best_certified_bound():
    """Whatever the speed of the machine, some limit lets it begin and not end."""
    seconds = measure("chain-3x200", solvers=["structured"])["seconds"].item()
    limits = (share * seconds for share in (0.6, 0.4, 0.8, 0.2, 0.3, 0.5, 0.7, 0.1))
    rows = (measure("chain-3x200", solvers=["structured"], max_seconds=limit) for limit in limits)
    assert any(row["status"].item() == "time_limit" and row["bound"].item() > 0 for row in rows)


def test_a_solver_that_hit_a_limit_is_not_tried_on_larger_problems_of_the_family():
    rows = solvers.run(problems=["chain-1x30", "chain-1x4", "chain-2x25", "conv-1"], solvers=["scs"], max_seconds=1e-4)
    assert rows["problem"].tolist() == ["chain-1x4", "chain-1x30", "chain-2x25", "conv-1"]
    assert rows["tried"].tolist() == [True, False, False, True]
    assert rows["status"].tolist() == ["time_limit"] * 4
    assert rows["message"][2] == "not tried: hit the limit at order 8"


def test_above_their_order_only_the_preferred_solver_is_tried():
    rows = solvers.run(problems=["chain-1x4", "chain-1x5"], solvers=["scs", "structured"], peers_max_order=8)
    assert list(zip(rows["problem"], rows["solver"], strict=True)) == [
        ("chain-1x4", "scs"),
        ("chain-1x4", "structured"),
        ("chain-1x5", "structured"),
    ]


def test_problems_of_a_trained_network_are_its_patches_its_tail_and_itself(tmp_path):
    rng = np.random.default_rng(0)
    first = Conv("conv1", rng.standard_normal((2, 1, 3, 3)), np.zeros(2))
    second = Conv("conv2", rng.standard_normal((2, 2, 3, 3)), np.zeros(2))
    dense = [Dense("fc1", rng.standard_normal((5, 32)), np.zeros(5)), Dense("fc2", np.ones((2, 5)), np.zeros(2))]
    relus = [Activation(f"relu{i}", "relu") for i in range(3)]
    layers = (first, relus[0], second, relus[1], Flatten("flatten"), dense[0], relus[2], dense[1])
    network = Network(layers, (1, 8, 8))
    network.save(tmp_path / "mine.npz")
    files = {"mine": str(tmp_path / "mine.npz")}
    sizes = {"mine/2x2": (36, 32), "mine/1x1": (64, 72), "mine/tail": (32, 5), "mine/whole": (64, 72, 32, 5)}
    for problem, expected in sizes.items():
        chain = make_problem(problem, files, 0)
        assert tuple(weight.shape[1] for weight in chain.weights) == expected
    for name, words in {"other/tail": "did you mean 'mine'|known are mine", "mine/head": "no such part"}.items():
        with pytest.raises(ConfigError, match=words):
            make_problem(name, files, 0)
    rows = solvers.run(problems=["mine/tail"], networks=[str(tmp_path / "mine.npz")], solvers=["structured"])
    assert rows["status"].tolist() == ["ok"]
