"""Certified predictions: nothing is broken within its radius, and only what is needed is bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from classifiers import classifier, convolutional, pictures
from typer.testing import CliRunner

import certlip
from certlip.base.errors import ConfigError, DataError, LimitExceeded
from certlip.certify.attack import Effort, attack
from certlip.certify.certification import Certification
from certlip.cli import app
from certlip.datasets import Dataset
from certlip.network import Network
from certlip.pytorch.to_torch import to_torch

NETWORKS = {
    "dense": classifier(0, 4, 8, 8, 3),
    "leaky": classifier(1, 4, 8, 3, kind="leaky_relu"),
    "smooth": classifier(2, 4, 8, 3, kind="tanh"),
    "convolutional": convolutional(3),
    "linear": classifier(4, 5, 4),
}


def unbroken(network: Network, images: np.ndarray, labels: np.ndarray, found: Certification, effort: Effort) -> bool:
    """Whether no attack at a few radii finds a wrong point within the radius of any image."""
    finite = found.radii[np.isfinite(found.radii) & (found.radii > 0)]
    nearest = [attack(network, images, labels, float(r), effort) for r in np.quantile(finite, [0.1, 0.5, 1.0])]
    return bool((np.min(nearest, axis=0) > np.where(found.right, found.radii, -1.0)).all())


@pytest.mark.parametrize("method", ["lipsdp", "product"])
@pytest.mark.parametrize("name", NETWORKS)
def test_no_image_is_broken_within_its_radius(name: str, method: str) -> None:
    network = NETWORKS[name]
    images, labels = pictures(network, 40, wrong=5)
    found = certlip.certify(network, images, labels, 0.2, method=method, effort=None)
    assert found.right.tolist() == [False] * 5 + [True] * 35
    assert (found.radii[:5] == 0).all()
    assert (found.radii[5:] > 0).all()
    assert unbroken(network, images, labels, found, Effort(20, 3))


def test_random_points_within_a_radius_keep_the_prediction() -> None:
    network = NETWORKS["dense"]
    images, labels = pictures(network, 10)
    found = certlip.certify(network, images, labels, 0.2, effort=None)
    rng = np.random.default_rng(0)
    for image, label, radius in zip(images, labels, found.radii, strict=True):
        for _ in range(20):
            step = rng.standard_normal(image.shape)
            outputs = oracle.forward(network, image + radius * (1 - 1e-12) * step / np.linalg.norm(step))
            assert outputs.argmax() == label


def test_on_a_linear_network_all_is_certified_that_is_true() -> None:
    network = NETWORKS["linear"]
    images, labels = pictures(network, 60)
    weight, bias = network.layers[0].weight, network.layers[0].bias
    outputs, own = images @ weight.T + bias, np.arange(60)
    with np.errstate(invalid="ignore"):
        quotients = (outputs[own, labels][:, None] - outputs) / np.linalg.norm(weight[labels][:, None] - weight, axis=2)
    exact = np.nanmin(quotients, axis=1)
    radii = [0.1, 0.4, 1.0]
    found = certlip.certify(network, images, labels, radii, effort=None)
    assert (found.radii <= exact * (1 + 1e-12)).all()
    for radius in radii:
        assert ((found.radii >= radius) == (exact * (1 - 1e-6) >= radius)).all()
    assert 0 < found.certified_accuracy(1.0) < found.certified_accuracy(0.1) < 1
    reached = found.radii >= exact * (1 - 1e-6)
    assert (found.limits[reached] == np.nanargmin(quotients, axis=1)[reached]).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_attack_is_never_below_what_is_certified(name: str) -> None:
    network = NETWORKS[name]
    images, labels = pictures(network, 40, wrong=3)
    found = certlip.certify(network, images, labels, [0.05, 0.2, 0.8], effort=Effort(15, 2))
    radii = np.linspace(0, 1.2, 50)
    certified, stood = ([of(r) for r in radii] for of in (found.certified_accuracy, found.attacked_accuracy))
    assert certified[0] == found.clean_accuracy == stood[0] == 37 / 40
    assert all(c <= s for c, s in zip(certified, stood, strict=True))
    assert certified == sorted(certified, reverse=True)
    assert stood == sorted(stood, reverse=True)
    assert stood[-1] < 1


def test_only_pairs_that_some_image_needs_are_bounded() -> None:
    network = classifier(5, 6, 12, 12, 6)
    images, labels = pictures(network, 12)
    radius = 0.1
    found = certlip.certify(network, images, labels, radius)
    whole = certlip.certify(network, images, labels, radius, budget=0.0)
    every = certlip.margins(network)
    assert whole.n_bounded == 0
    assert whole.left_open
    assert found.left_open == ()
    assert 0 < found.n_bounded < len(every)
    best = every_radius(found, images, labels, network, every)
    # what was not bounded would not have settled any image
    assert ((best >= radius) == (found.radii >= radius)).all()
    assert whole.certified_accuracy(radius) < found.certified_accuracy(radius)


def every_radius(
    found: Certification, images: np.ndarray, labels: np.ndarray, network: Network, every: dict[Any, Any]
) -> np.ndarray:
    """With a constant of its own for each pair."""
    outputs = np.array([oracle.forward(network, image) for image in images])
    radii = np.full(len(images), np.inf)
    for (i, j), margin in every.items():
        difference = np.abs(outputs[:, i] - outputs[:, j]) / margin.value
        radii = np.where((labels == i) | (labels == j), np.minimum(radii, difference), radii)
    return radii


def test_a_budget_of_nothing_leaves_the_constant_of_the_network() -> None:
    network = NETWORKS["dense"]
    images, labels = pictures(network, 10)
    found = certlip.certify(network, images, labels, 1.0, budget=0.0, effort=None)
    whole = certlip.margins(network, method="product", ways=["network"])[0, 1].value
    assert (found.constants[~np.eye(3, dtype=bool)] <= whole).all()
    assert set(found.certificates) == {"network"}
    assert {*found.left_open} <= {(0, 1), (0, 2), (1, 2)}


def test_every_certificate_is_saved_and_verified(tmp_path: Path) -> None:
    network = NETWORKS["dense"]
    images, labels = pictures(network, 20)
    found = certlip.certify(network, images, labels, 0.2)
    found.save_certificates(tmp_path)
    names = sorted(path.stem for path in tmp_path.iterdir())
    assert names == sorted(["network", *(f"margin-{i}-{j}" for i, j in bounded_pairs(found))])
    for path in tmp_path.iterdir():
        verification = certlip.verify(path)
        assert verification
        if path.stem != "network":
            i, j = map(int, path.stem.split("-")[1:])
            assert verification.value == found.constants[i, j]


def bounded_pairs(found: Certification) -> list[tuple[int, int]]:
    whole = np.sqrt(2) * found.certificates["network"].value
    return [tuple(pair) for pair in np.argwhere(np.triu(found.constants) > 0) if found.constants[tuple(pair)] < whole]


def test_a_module_takes_its_input_shape_from_the_images() -> None:
    network = NETWORKS["convolutional"]
    images, labels = pictures(network, 8)
    by_network, by_module = (certlip.certify(m, images, labels, 0.2) for m in (network, to_torch(network)))
    assert by_module.radii.tolist() == by_network.radii.tolist()


def test_images_of_single_precision_are_taken_as_they_are() -> None:
    network = NETWORKS["dense"]
    images, labels = pictures(network, 8)
    narrow = images.astype(np.float32)
    assert (
        certlip.certify(network, narrow, labels, 0.2, effort=None).radii.tolist()
        == certlip.certify(network, narrow.astype(float), labels, 0.2, effort=None).radii.tolist()
    )


WRONG: dict[str, Any] = {
    "bytes": (lambda x, y: (x.astype(np.uint8), y), "images of type uint8; give the numbers that the network takes"),
    "a shape": (lambda x, y: (x[:, :3], y), r"images of shape \(6, 3\), and the network takes \(n, 4\)"),
    "none": (lambda x, y: (x[:0], y[:0]), r"images of shape \(0, 4\)"),
    "NaN": (lambda x, y: (x * np.nan, y), "NaN or infinite"),
    "too few labels": (lambda x, y: (x, y[:3]), "labels must be 6 whole numbers in 0 to 2, one an image"),
    "labels beyond": (lambda x, y: (x, y + 5), "labels must be 6"),
    "labels below": (lambda x, y: (x, y - 5), "labels must be 6"),
    "fractions": (lambda x, y: (x, y + 0.5), "labels must be 6"),
}


@pytest.mark.parametrize("name", WRONG)
def test_images_that_do_not_fit_are_refused_in_words(name: str) -> None:
    network = NETWORKS["dense"]
    change, words = WRONG[name]
    with pytest.raises(DataError, match=words):
        certlip.certify(network, *change(*pictures(network, 6)), 0.2)


@pytest.mark.parametrize("radius", [0.0, -1.0, np.nan, np.inf, []])
def test_a_radius_that_is_none_is_refused(radius: Any) -> None:
    network = NETWORKS["dense"]
    with pytest.raises(ConfigError, match="give positive numbers, in the unit of the network's input"):
        certlip.certify(network, *pictures(network, 6), radius)


def test_where_there_is_no_constant_the_reason_is_raised() -> None:
    network = NETWORKS["dense"]
    with pytest.raises(LimitExceeded, match="mosek"):
        certlip.certify(network, *pictures(network, 6), 0.2, solver="mosek")
    with pytest.raises(ConfigError, match="certifies no prediction"):
        certlip.certify(network, *pictures(network, 6), 0.2, method="seqlip", mode="greedy")


def run(tmp_path: Path, images: str, *arguments: str, network: Network = NETWORKS["dense"]) -> Any:
    network.save(tmp_path / "net.npz")
    command = ["certify", str(tmp_path / "net.npz"), "--images", str(tmp_path / images), *arguments]
    return CliRunner().invoke(app, command)


def test_the_command_line_prints_images_and_what_holds_of_all(tmp_path: Path) -> None:
    images, labels = pictures(NETWORKS["dense"], 12, wrong=2)
    np.savez(tmp_path / "images.npz", images=images, labels=labels)
    plot, folder = tmp_path / "curve.png", tmp_path / "certificates"
    answer = run(tmp_path, "images.npz", "--radius", "0.2", "--plot", str(plot), "--certificates", str(folder))
    assert answer.exit_code == 0
    lines = answer.stdout.splitlines()
    assert lines[0].split()[:3] == ["image", "label", "predicted"]
    assert lines[1].split() == ["0", str(labels[0]), str((labels[0] - 1) % 3), "-", "-", "0.0000"]
    found = certlip.certify(NETWORKS["dense"], images, labels, 0.2)
    assert lines[13] == "net: 12 images, 83.33% of them right; radii in the unit of the network's input"
    assert f"radius 0.2: {found.certified_accuracy(0.2):.2%} certified" in lines[14]
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert CliRunner().invoke(app, ["verify", *map(str, folder.iterdir())]).exit_code == 0
    quiet = run(tmp_path, "images.npz", "--radius", "0.2", "--radius", "0.4", "--quiet", "--first", "6")
    assert [line.split(":")[0] for line in quiet.stdout.splitlines()[:3]] == ["net", "radius 0.2", "radius 0.4"]
    assert "6 images" in quiet.stdout


def test_the_command_line_takes_a_data_set_of_a_run(tmp_path: Path) -> None:
    network = convolutional(6, side=6)
    rng = np.random.default_rng(0)
    parts = [rng.integers(0, 17, (n, 1, 6, 6)).astype(np.float32) / 16 for n in (4, 7)]
    labels = [rng.integers(0, 3, n) for n in (4, 7)]
    Dataset(parts[0], labels[0], parts[1], labels[1], n_classes=3).save(tmp_path / "digits.npz")
    answer = run(tmp_path, "digits.npz", "--radius", "0.1", "--quiet", network=network)
    assert answer.stdout.startswith("net: 7 images")


def test_the_command_line_takes_a_folder_of_pictures(tmp_path: Path) -> None:
    from PIL import Image

    network = convolutional(6, side=6)
    for k, name in enumerate(("a", "b", "c")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        Image.new("L", (9, 9), 80 * k).save(tmp_path / "pictures" / name / "one.png")
    answer = run(tmp_path, "pictures", "--radius", "0.1", "--quiet", network=network)
    assert answer.stdout.startswith("net: 3 images")
    answer = run(tmp_path, "pictures", "--radius", "0.1")
    assert "pictures do not fit an input of shape (4,); give a .npz file" in str(answer.exception)


@pytest.mark.parametrize("content", ["missing", "text", "other arrays", "one array", "objects"])
def test_files_that_hold_no_images_are_refused_in_words(content: str, tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    if content == "text":
        path.write_text("images")
    elif content == "other arrays":
        np.savez(path, x=np.ones(3))
    elif content == "one array":
        with path.open("wb") as handle:
            np.save(handle, np.ones(3))
    elif content == "objects":
        np.savez(path, images=np.array([{}]), labels=np.zeros(1, int))
    answer = run(tmp_path, "images.npz", "--radius", "0.1")
    assert isinstance(answer.exception, DataError)
    assert str(path) in str(answer.exception)


def test_a_plot_of_an_unknown_kind_is_refused_before_anything_runs(tmp_path: Path) -> None:
    answer = run(tmp_path, "missing.npz", "--radius", "0.1", "--plot", "curve.gif")
    assert "a figure is written as .pdf, .svg, .png, not as .gif" in str(answer.exception)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(20))
def test_no_image_of_many_is_broken_within_its_radius(seed: int) -> None:
    network = (classifier(seed, 8, 30, 30, 6), convolutional(seed, 5, 6))[seed % 2]
    images, labels = pictures(network, 500, seed)
    found = certlip.certify(network, images, labels, [0.05, 0.2], effort=None)
    assert unbroken(network, images, labels, found, Effort(60, 8, seed))
    assert found.certified_accuracy(0.05) > 0
