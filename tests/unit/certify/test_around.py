"""Constants around images: they settle what those of the whole space leave open, and nothing is broken inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from classifiers import classifier, convolutional, pictures
from typer.testing import CliRunner

import certlip
from certlip.certify.attack import Effort, attack
from certlip.cli import app
from certlip.network import Array, MaxPool, Network
from certlip.proof.certificate import LocalCertificate

NETWORKS = {
    "dense": classifier(0, 6, 20, 20, 4),
    "convolutional": convolutional(3, 4, 6),
    "tanh": classifier(2, 4, 9, 3, kind="tanh"),
}
RADII = [0.1, 0.2]


@pytest.mark.parametrize("name", NETWORKS)
def test_more_is_certified_and_no_image_is_broken_within_its_radius(name: str) -> None:
    network = NETWORKS[name]
    images, labels = pictures(network, 60, wrong=5)
    whole = certlip.certify(network, images, labels, RADII, effort=None)
    around = certlip.certify(network, images, labels, RADII, effort=None, local_budget=60)
    assert (around.radii >= whole.radii).all()
    assert sum(map(around.certified_accuracy, RADII)) > sum(map(whole.certified_accuracy, RADII))
    assert around.n_local > 0 == whole.n_local
    assert unbroken(network, images, labels, around.radii, Effort(40, 6))


def unbroken(network: Network, images: Array, labels: Array, radii: Array, effort: Effort) -> bool:
    """Whether no attack at a radius asked for finds a wrong point within the radius of an image."""
    nearest = [attack(network, images, labels, r, effort) for r in RADII]
    return bool((np.min(nearest, axis=0) > np.where(radii > 0, radii, -1.0)).all())


def test_every_certificate_proves_what_is_said_of_its_image(tmp_path: Path) -> None:
    network = NETWORKS["dense"]
    images, labels = pictures(network, 30)
    found = certlip.certify(network, images, labels, 0.2, effort=None, local_budget=60)
    found.save_certificates(tmp_path)
    local = {name: c for name, c in found.certificates.items() if isinstance(c, LocalCertificate)}
    assert local
    for name, certificate in local.items():
        verification = certlip.verify(tmp_path / f"{name}.npz")
        assert (verification.value, verification.radius) == (certificate.value, 0.2)
        printed = CliRunner().invoke(app, ["verify", str(tmp_path / f"{name}.npz")]).stdout
        assert f"holds {certificate.value!r} within 0.2 of its point" in printed.replace("\n", " ")
        _, image, _, label, other = name.split("-")
        assert (certificate.point == images[int(image)]).all()
        assert labels[int(image)] == int(label) != int(other)
        assert certificate.radius == 0.2
        assert certificate.value < found.constants[int(label), int(other)]


def test_without_a_budget_or_open_images_none_are_made() -> None:
    network = NETWORKS["dense"]
    images, labels = pictures(network, 20)
    assert certlip.certify(network, images, labels, 0.2, effort=None).n_local == 0
    assert certlip.certify(network, images, labels, 1e-6, effort=None, local_budget=60).n_local == 0


def test_images_that_an_attack_broke_have_none() -> None:
    network = NETWORKS["dense"]
    images, labels = pictures(network, 30)
    found = certlip.certify(network, images, labels, 0.5, local_budget=60)
    broken = set(np.flatnonzero(found.nearest <= 0.5))
    assert broken
    assert not broken & {int(name.split("-")[1]) for name in found.certificates if name.startswith("image")}


def test_a_network_with_pooling_keeps_the_constants_of_the_whole_space() -> None:
    small = convolutional(3, 4, 6)
    layers = (small.layers[0], MaxPool("pool", (1, 1), (1, 1)), *small.layers[1:])
    network = Network(layers, small.input_shape)
    images, labels = pictures(network, 10)
    found = certlip.certify(network, images, labels, 0.3, method="product", effort=None, local_budget=60)
    assert found.n_local == 0
    assert (found.radii > 0).all()


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(4))
def test_no_image_of_many_is_broken_within_its_radius_around(seed: int) -> None:
    network = (classifier(seed, 8, 30, 30, 6), convolutional(seed, 5, 6))[seed % 2]
    images, labels = pictures(network, 500, seed)
    found = certlip.certify(network, images, labels, RADII, effort=None, local_budget=600)
    assert found.n_local > 0
    assert unbroken(network, images, labels, found.radii, Effort(60, 8, seed))
