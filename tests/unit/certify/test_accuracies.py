"""What the workflow keeps of certified accuracy, and that each damage to it is found and named."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classifiers import convolutional, pictures

import certlip
from certlip.base.errors import DataError, Refusal
from certlip.base.record import Status
from certlip.certify import certified
from certlip.certify.accuracies import Accuracy, Attacked, collect, in_units, sha256_of
from certlip.certify.attack import Effort, wrong_points
from certlip.certify.margins import Constants
from certlip.certify.proving import Expected, accuracies_flaws, accuracy_flaw
from certlip.datasets import Dataset
from certlip.proof import certificate as certificates

NETWORK, ROW, N = convolutional(3, 4, 6), ("net", "lipsdp"), 24
RADII = [0.05, 0.1]
SPREAD = 0.5
ENTRY = {"npz": "net.npz", "dataset": "data", "standardise": {"means": [0.5], "spread": SPREAD}}
EXPECTED = Expected([ROW], {"net": "data"}, {"net": RADII}, N, {"net": ENTRY})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of results as the workflow's scripts make it."""
    folder = tmp_path_factory.mktemp("results")
    rng = np.random.default_rng(0)
    pixels = (rng.integers(0, 256, (30, 1, 6, 6)) / np.float32(255)).astype(np.float32)
    images = (pixels.astype(float) - 0.5) / SPREAD
    labels = NETWORK.forward(images).argmax(axis=1)
    labels[:3] = (labels[:3] + 1) % 4
    Dataset(pixels, labels, pixels, labels, 4).save(folder / "datasets" / "data.npz")
    NETWORK.save(folder / "networks" / "net.npz")
    images, labels = images[:N], labels[:N]
    points = np.full_like(images, np.nan)
    for radius in in_units(RADII, SPREAD):
        left = np.flatnonzero(np.isnan(points[:, 0, 0, 0]))
        points[left] = wrong_points(NETWORK, images[left], labels[left], radius, Effort(20, 2))
    places = np.flatnonzero(~np.isnan(points[:, 0, 0, 0]))
    attacked = Attacked(places, points[places], sha256_of(images, labels), 1.5)
    attacked.save(folder / "attacks" / "net.npz")
    constants = Constants(NETWORK, "lipsdp", {})
    wanted = in_units(RADII, SPREAD)
    found = certified(constants, images, labels, wanted, local_budget=60, nearest=attacked.nearest(images))
    found.save_certificates(folder / "margins" / "net" / "lipsdp")
    common = {"network": "net", "method": "lipsdp", "unit": SPREAD, "weights_sha256": NETWORK.sha256}
    record = Accuracy.of(found, attacked, **common)
    assert record.n_local > 0
    assert 3 < len(places) < N
    record.save(folder / "accuracies" / "net" / "lipsdp.json")
    collect([record], {}).to_csv(folder / "certified_accuracy.csv", index=False)
    return folder


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "results")


def flaws_of(results: Path) -> list[str]:
    flaw = accuracy_flaw(results, ROW, NETWORK.sha256, EXPECTED)
    return [flaw] if flaw else accuracies_flaws(results, EXPECTED)


def test_what_was_made_is_proved_again(results: Path) -> None:
    assert flaws_of(results) == []


def edited(results: Path, **changes: Any) -> None:
    path = results / "accuracies/net/lipsdp.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def raise_radius(results: Path) -> None:
    record = Accuracy.load(results / "accuracies/net/lipsdp.json")
    k = int(np.argmax(record.radii))
    edited(results, radii=[r * (1.001 if i == k else 1) for i, r in enumerate(record.radii)])


def raise_beyond_the_ball(results: Path) -> None:
    """Radii that are one asked for exactly come from constants around images, which hold no further."""
    record = Accuracy.load(results / "accuracies/net/lipsdp.json")
    assert set(record.radii) & set(record.wanted)
    edited(results, radii=[r * (1.0001 if r in record.wanted else 1) for r in record.radii])


def call_right(results: Path) -> None:
    edited(results, right=[True] * N)


def move_attack_nearer(results: Path) -> None:
    record = Accuracy.load(results / "accuracies/net/lipsdp.json")
    edited(results, nearest=[None if d is None else 0.9 * d for d in record.nearest])


def shorten_attack(results: Path) -> None:
    attacked = Attacked.load(results / "attacks/net.npz")
    images = (Dataset.load(results / "datasets/data.npz").test_images[:N].astype(float) - 0.5) / SPREAD
    nearer = images[attacked.places] + 0.5 * (attacked.points - images[attacked.places])
    replace(attacked, points=nearer).save(results / "attacks/net.npz")


def edit_local(results: Path) -> None:
    path = next((results / "margins/net/lipsdp").glob("image-*.npz"))
    loaded = certificates.load(path)
    assert isinstance(loaded, certificates.LocalCertificate)
    replace(loaded, rho=0.5 * loaded.rho).save(path)


def rename_local(results: Path) -> None:
    path = next((results / "margins/net/lipsdp").glob("image-*.npz"))
    _, image, *rest = path.stem.split("-")
    path.rename(path.with_name("-".join(["image", str((int(image) + 1) % N), *rest]) + ".npz"))


def take_another_dataset(results: Path) -> None:
    dataset = Dataset.load(results / "datasets/data.npz")
    replace(dataset, test_images=dataset.test_images[::-1].copy()).save(results / "datasets/data.npz")


def edit_table(results: Path) -> None:
    path = results / "certified_accuracy.csv"
    text = path.read_text()
    share = repr(Accuracy.load(results / "accuracies/net/lipsdp.json").certified(RADII[0] / SPREAD))
    assert share in text
    path.write_text(text.replace(share, "0.99"))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing record": (lambda r: (r / "accuracies/net/lipsdp.json").unlink(), "does not exist"),
    "a truncated record": (
        lambda r: os.truncate(r / "accuracies/net/lipsdp.json", 60),
        "is not a certlip record of certified",
    ),
    "another's record": (lambda r: edited(r, method="torus"), "is that of net/torus"),
    "other radii asked for": (lambda r: edited(r, wanted=[0.1]), "not of those of the configuration"),
    "another unit": (lambda r: edited(r, unit=1.0), "not of those of the configuration"),
    "other weights": (lambda r: edited(r, weights_sha256="0" * 64), "other weights"),
    "other images": (take_another_dataset, "of other images"),
    "a larger radius": (raise_radius, "the radius of image .* is not proved"),
    "radii beyond the ball": (raise_beyond_the_ball, "the radius of image .* is not proved"),
    "images called right": (call_right, "not every image that the record calls right is so"),
    "a nearer attack": (move_attack_nearer, "changed nearer than the attack found"),
    "an attack that changes nothing": (shorten_attack, "not proved to be wrong"),
    "a missing attack": (lambda r: (r / "attacks/net.npz").unlink(), "net.npz does not exist"),
    "a missing constant": (lambda r: (r / "margins/net/lipsdp/network.npz").unlink(), "no certificate of the network"),
    "a smaller local constant": (edit_local, "does not hold: rho"),
    "another image's constant": (rename_local, "is of another image"),
    "a file of nothing known": (
        lambda r: shutil.copy(r / "margins/net/lipsdp/network.npz", r / "margins/net/lipsdp/other.npz"),
        "other.npz is of nothing known",
    ),
    "another pair's constant": (
        lambda r: shutil.copy(r / "margins/net/lipsdp/network.npz", r / "margins/net/lipsdp/margin-0-1.npz"),
        "margin-0-1.npz is of another network",
    ),
    "a changed table": (edit_table, "net/lipsdp is not what its record says"),
    "a missing table": (lambda r: (r / "certified_accuracy.csv").unlink(), "is missing or no table"),
    "a proof of what claims none": (
        lambda r: edited(r, status="no_data", reason="why", right=[], radii=[], nearest=[]),
        "a proof of what claims none",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_every_damage_is_one_sentence_that_names_it(results: Path, damage: str) -> None:
    change, words = DAMAGES[damage]
    change(results)
    flaws = flaws_of(results)
    assert len(flaws) >= 1
    with pytest.raises(DataError, match=words):
        raise DataError(flaws[0])


def test_a_missing_local_certificate_leaves_its_radius_unproved(results: Path) -> None:
    for path in (results / "margins/net/lipsdp").glob("image-*.npz"):
        path.unlink()
    assert "is not proved" in flaws_of(results)[0]


def test_shares_lie_on_either_side_of_the_truth(results: Path) -> None:
    record = Accuracy.load(results / "accuracies/net/lipsdp.json")
    radii = np.linspace(0, 0.5, 60)
    assert all(record.certified(r) <= record.attacked(r) for r in radii)
    assert record.certified(0.0) == record.clean == (N - 3) / N
    assert record.certified(RADII[0] / SPREAD) > record.certified(RADII[1] / SPREAD) > 0


def test_a_radius_that_was_asked_for_is_kept_and_others_are_rounded_down() -> None:
    images, labels = pictures(NETWORK, 10)
    found = certlip.certify(NETWORK, images, labels, 1 / 3, effort=None, local_budget=60)
    record = Accuracy.of(found, None, network="net", method="lipsdp")
    assert 1 / 3 in record.radii
    assert all(r <= own for r, own in zip(record.radii, found.radii, strict=True))
    assert all(own < r * (1 + 1e-8) for r, own in zip(record.radii, found.radii, strict=True))


def test_rows_hold_the_radii_asked_for_in_pixels_and_a_curve() -> None:
    images, labels = pictures(NETWORK, 10)
    found = certlip.certify(NETWORK, images, labels, in_units(RADII, SPREAD), effort=None)
    record = Accuracy.of(found, None, network="net", method="lipsdp", unit=SPREAD)
    none = Accuracy.refused(Refusal("no_data", "nothing there"), network="other", method="lipsdp")
    accuracy = {"radius": 0.1, "certified": {"Theirs": 0.25}, "attacked": 0.5}
    rows = collect([record, none], {"net": {"source": "S 2001", "note": "n", "accuracy": accuracy}})
    own = rows[(rows["network"] == "net") & (rows["reported_by"] == "")]
    asked = own[own["asked"]]
    assert asked["radius"].tolist() == RADII
    assert asked["certified"].tolist() == [found.certified_accuracy(r) for r in found.wanted]
    assert own["radius"].is_monotonic_increasing
    assert len(own) > 100
    theirs = rows[rows["reported_by"] != ""]
    assert theirs[["method", "radius", "certified", "reported_by"]].to_numpy().tolist() == [
        ["Theirs", 0.1, 0.25, "S 2001: n"]
    ]
    missing = rows[rows["network"] == "other"]
    assert missing[["status", "reason", "asked"]].to_numpy().tolist() == [["no_data", "nothing there", True]]


def test_a_record_with_a_status_has_no_images() -> None:
    with pytest.raises(ValueError, match="status"):
        Accuracy(network="n", method="m", status=Status.NO_DATA, right=(True,), radii=(1.0,), nearest=(None,))
    with pytest.raises(ValueError, match="not one radius"):
        Accuracy(network="n", method="m", right=(True,), radii=(1.0, 2.0), nearest=(None,))
