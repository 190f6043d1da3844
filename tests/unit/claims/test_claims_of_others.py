"""Claims of others: every verdict follows from two computed numbers, and what is missing waits."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch

import certlip
from certlip import claims, tables
from certlip.base.errors import ConfigError
from certlip.claims import Proof, eclipse_nn, glipsdp_digits, glipsdp_residual, greedy_seqlip, lipsdp_network, verdict
from certlip.claims.__main__ import main
from certlip.network import Activation, Conv, Dense, Flatten, Network

NOWHERE = Path("no-such-folder")


def finding(name: str) -> claims.Finding:
    return claims.load(name).check(NOWHERE)[0]


@pytest.mark.parametrize(
    ("proof", "above", "below"),
    [
        (Proof.LOWER, "no bound", "not refuted"),
        (Proof.DUAL, "below what such multipliers can prove", "not refuted"),
        (Proof.UPPER, "below ours, not refuted", "holds, 2 times above"),
    ],
)
def test_a_verdict_follows_from_two_numbers(proof: Proof, above: str, below: str) -> None:
    assert verdict(1.0, 2.0, proof) == above
    assert verdict(2.0, 1.0, proof) == below
    if proof is not Proof.UPPER:
        assert verdict(1.0, 1.0, proof) == "not refuted"


def test_circular_padding_is_below_the_padded_norm() -> None:
    found = finding("circular_padding")
    exact = np.linalg.norm(np.array([[1.0, -1, 0], [-1, 1, -1], [0, -1, 1]]), 2)
    assert found.claimed == pytest.approx(2.0)
    assert exact * (1 - 1e-6) <= found.proved <= exact
    assert verdict(found.claimed, found.proved, found.proof) == "no bound"


def test_overlapping_windows_add_up() -> None:
    plane, line = claims.load("max_pooling").check(NOWHERE)
    assert (plane.claimed, line.claimed) == (1.0, 1.0)
    assert 2 * (1 - 1e-12) <= plane.proved <= 2
    assert math.sqrt(2) * (1 - 1e-12) <= line.proved <= math.sqrt(2)


def test_coupled_multipliers_give_less_than_a_gradient() -> None:
    found = finding("lipsdp_network")
    patterns = [np.diag(np.array(p, float)) for p in np.ndindex(2, 2, 2)]
    exact = max(np.linalg.norm(lipsdp_network.LAST @ p @ lipsdp_network.FIRST, 2) for p in patterns)
    assert found.claimed == pytest.approx(0.744, abs=1e-3)
    assert exact * (1 - 1e-6) <= found.proved <= exact
    assert found.proved > 1.3


def test_greedy_ascent_falls_below_a_lower_bound() -> None:
    found = finding("greedy_seqlip")
    network = greedy_seqlip.random_network(int(found.what.split("seed ")[1].rstrip(")")))
    exact = certlip.bound(network, method="seqlip", mode="exact").value
    assert found.claimed == certlip.bound(network, method="seqlip").value
    assert found.claimed < 0.95 * found.proved
    assert exact * (1 - 1e-6) <= found.proved <= exact
    assert oracle.largest_pattern_norm(network) * (1 - 1e-9) <= exact


def test_matrices_mixed_up_are_those_of_a_network_whose_pixels_are_permuted() -> None:
    rng = np.random.default_rng(0)
    conv = Conv("conv", rng.standard_normal((2, 1, 3, 3)), np.zeros(2), padding=(1, 1, 1, 1))
    dense = Dense("dense", rng.standard_normal((1, 18)), np.zeros(1))
    network = Network((conv, Activation("act", "relu"), Flatten("flat"), dense), (1, 3, 3))
    first, last = glipsdp_digits.mixed_up(network)
    right = oracle.dense_matrix(conv, (1, 3, 3))
    assert last.tolist() == dense.weight.tolist()
    for channel, row, column in np.ndindex(2, 3, 3):
        assert first[channel + 2 * (row + 3 * column)].tolist() == right[9 * channel + 3 * row + column].tolist()


def test_networks_of_the_digits_are_read_as_torch_computes_them() -> None:
    rng = np.random.default_rng(2)
    kernels = {"conv1_weight": rng.standard_normal((3, 3, 2)), "conv2_weight": rng.standard_normal((3, 3, 2, 4))}
    biases = {"conv1_bias": np.ones(2), "conv2_bias": np.ones(4), "fc1_bias": np.arange(10.0)}
    content = {**kernels, **biases, "fc1_weight": rng.standard_normal((256, 10))}
    network = glipsdp_digits.network_of(content)
    x = torch.from_numpy(rng.standard_normal((3, 1, 8, 8)))
    y, weight = x, torch.from_numpy(kernels["conv1_weight"]).permute(2, 0, 1)[:, None]
    for k, w in ((1, weight), (2, torch.from_numpy(kernels["conv2_weight"]).permute(3, 2, 0, 1))):
        y = torch.relu(torch.nn.functional.conv2d(y, w, torch.from_numpy(biases[f"conv{k}_bias"]), padding=1))
    expected = (y.flatten(1) @ torch.from_numpy(content["fc1_weight"]))[:, 7] + 7
    np.testing.assert_allclose(network.forward(x.numpy())[:, 0], expected.numpy(), rtol=1e-10)


def test_the_recursion_that_forgets_a_layer_is_the_right_one_else() -> None:
    found = finding("eclipse_nn")
    assert verdict(found.claimed, found.proved, found.proof) == "no bound"
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(shape) for shape in ((5, 3), (4, 5), (2, 4))]
    layers = [
        *(
            layer
            for k, w in enumerate(weights[:-1])
            for layer in (Dense(f"d{k}", w, np.zeros(len(w))), Activation(f"a{k}", "relu"))
        ),
        Dense("last", weights[-1], np.zeros(2)),
    ]
    certified = certlip.bound(Network(tuple(layers), (3,)), method="eclipse_fast").value
    assert eclipse_nn.recursion(weights) == pytest.approx(certified, rel=1e-3)
    assert eclipse_nn.recursion([10 * weights[0], *weights[1:]], 1) == eclipse_nn.recursion(weights, 1)


def test_a_residual_network_is_built_as_its_source_computes_it() -> None:
    rng = np.random.default_rng(1)
    names = ["input_layer", *(f"blocks.{k}.fc{i}" for k in range(8) for i in (1, 2)), "output_layer"]
    sizes = {"input_layer": (64, 784), "output_layer": (10, 64)}
    state = {f"{n}.weight": rng.standard_normal(sizes.get(n, (64, 64))) / 8 for n in names}
    state |= {f"{n}.bias": rng.standard_normal(sizes.get(n, (64, 64))[0]) for n in names}
    x = rng.standard_normal((3, 784))
    y = np.maximum(x @ state["input_layer.weight"].T + state["input_layer.bias"], 0)
    for k in range(8):
        inner = np.maximum(y @ state[f"blocks.{k}.fc1.weight"].T + state[f"blocks.{k}.fc1.bias"], 0)
        y = np.maximum(inner @ state[f"blocks.{k}.fc2.weight"].T + state[f"blocks.{k}.fc2.bias"] + y, 0)
    expected = y @ state["output_layer.weight"].T + state["output_layer.bias"]
    np.testing.assert_allclose(glipsdp_residual.residual_network(state).forward(x), expected, rtol=1e-10)


def test_claims_without_their_files_wait_and_say_for_what() -> None:
    rows = claims.check(NOWHERE, ["glipsdp_digits", "glipsdp_residual", "max_pooling"])
    assert rows["verdict"].tolist() == ["no_data", "no_data", "no bound", "no bound"]
    assert "git clone https://github.com/ppauli/GLipSDP no-such-folder/GLipSDP" in rows["reason"].iloc[0]
    cells = tables.load("claims_of_others").make(rows)
    assert cells["Verdict"].tolist() == rows["verdict"].tolist()
    assert "is not there" in cells["How"].iloc[0]
    assert cells["Command"].iloc[3] == "python -m certlip.claims max_pooling"


def test_every_claim_names_its_source_and_files_that_are_of_it() -> None:
    for name in claims.names():
        assert claims.load(name).SOURCE
    assert all(file.startswith("some/folder/") for file in claims.files("some/folder"))
    with pytest.raises(ConfigError, match="did you mean 'max_pooling'"):
        claims.load("max_poling")


def test_the_command_in_a_row_prints_what_the_row_says(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["max_pooling", "nowhere"]) == 0
    printed = capsys.readouterr().out
    assert "claimed 1, proved 2 (lower): no bound" in printed
    assert main(["max_poling"]) == 1
    assert "did you mean 'max_pooling'" in capsys.readouterr().err
