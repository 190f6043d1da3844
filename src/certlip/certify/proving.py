"""Whether records of certified accuracy hold by their own files alone: images, network, certificates and attack."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from certlip.base.errors import CertlipError, DataError
from certlip.base.record import Status
from certlip.certify.accuracies import COLUMNS, Accuracy, Attacked, collect, in_units, sha256_of
from certlip.certify.attack import are_wrong
from certlip.certify.images import first_images
from certlip.certify.margins import Row, table_of, with_row
from certlip.certify.radii import Labels, margins_at, radii_of
from certlip.config import Network as NetworkEntry
from certlip.network import Array, Network
from certlip.proof import certificate as certificates
from certlip.proof.certificate import LocalCertificate, UpperCertificate
from certlip.verify import verify

FILE = r"(?:image-(?P<image>\d+)-)?(?:network|margin-(?P<i>\d+)-(?P<j>\d+))"
"""Names of certificates, without their ending: `certlip.certify.margins.name_of`, behind the image for which it is."""


@dataclass(frozen=True)
class Expected:
    """Rows (network, method) of certified accuracy that a folder of results must have.

    n_images: of the test images of `datasets`, network to name; radii: asked for, in pixels, by network; networks:
    the entry of each.
    """

    rows: Sequence[tuple[str, str]] = ()
    datasets: Mapping[str, str] = field(default_factory=dict)
    radii: Mapping[str, Sequence[float]] = field(default_factory=dict)
    n_images: int = 0
    networks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def images_of(self, results: Path, name: str, network: Network) -> tuple[Array, Labels]:
        """Labelled images of a network."""
        path = results / "datasets" / f"{self.datasets[name]}.npz"
        return first_images(path, network, self.n_images, self.networks[name])


def accuracy_flaw(results: Path, row: tuple[str, str], sha256: str | None, expected: Expected) -> str:
    """The first thing that does not hold of a row, in words; empty if all does. sha256: of the network."""
    place = "/".join(row)
    try:
        record = Accuracy.load(results / "accuracies" / f"{place}.json")
        files = sorted((results / "margins" / place).glob("*.npz"))
        if (record.network, record.method) != row:
            return f"{place}: its record is that of {record.network}/{record.method}"
        if record.status is not Status.OK:
            return f"{files[0]}: a proof of what claims none" if files else ""
        unit = NetworkEntry.model_validate(expected.networks[row[0]]).unit
        if record.unit != unit or list(record.wanted) != in_units(expected.radii[row[0]], unit):
            return f"{place}: its record is of the radii {list(record.wanted)}, not of those of the configuration"
        network = Network.load(results / "networks" / f"{row[0]}.npz")
        if not network.sha256 == record.weights_sha256 == sha256:
            return f"{place}: its record is of other weights than those of {row[0]}.pt"
        images, labels = expected.images_of(results, row[0], network)
        if record.images_sha256 != sha256_of(images, labels) or len(record.radii) != len(images):
            return f"{place}: its record is of other images"
        flaw = _radii_flaw(record, network, images, labels, files)
        return flaw and f"{results / 'margins' / place}: {flaw}"
    except CertlipError as error:
        return str(error)


def accuracies_flaws(results: Path, expected: Expected) -> list[str]:
    """What does not hold of attacks, and of the table of all rows, in words; the rows hold by themselves."""
    if not expected.rows:
        return []
    try:
        records = [Accuracy.load(results / "accuracies" / n / f"{m}.json") for n, m in expected.rows]
    except DataError as error:
        return [str(error)]
    flaws = []
    for network in dict.fromkeys(record.network for record in records):
        of_network = [r for r in records if r.network == network and r.status is Status.OK]
        flaws += [attack_flaw(results, network, of_network, expected)] if of_network else []
    return [flaw for flaw in [*flaws, table_flaw(results, records)] if flaw]


def attack_flaw(results: Path, network: str, records: Sequence[Accuracy], expected: Expected) -> str:
    """The first thing that does not hold of an attack and what records say of it."""
    path = results / "attacks" / f"{network}.npz"
    try:
        attacked, loaded = Attacked.load(path), Network.load(results / "networks" / f"{network}.npz")
        images, labels = expected.images_of(results, network, loaded)
    except CertlipError as error:
        return str(error)
    places = attacked.places
    if attacked.images_sha256 != sha256_of(images, labels) or (len(places) and places.max() >= len(images)):
        return f"{path}: an attack on other images"
    if len(places) and not are_wrong(loaded, attacked.points, labels[places]).all():
        return f"{path}: at some of its points the network is not proved to be wrong"
    nearest = attacked.nearest(images)
    for record in records:
        claimed = np.array([np.inf if d is None else d for d in record.nearest])
        if (claimed < nearest).any():
            return f"{network}/{record.method}: its record has an image changed nearer than the attack found"
    return ""


def table_flaw(results: Path, records: Sequence[Accuracy]) -> str:
    """Whether the rows of accuracies say what the records say."""
    import pandas as pd

    path = results / "certified_accuracy.csv"
    try:
        found, own = pd.read_csv(path), pd.read_csv(io.StringIO(collect(records, {}).to_csv(index=False)))
    except (OSError, ValueError) as error:
        return f"{path} is missing or no table of accuracies ({error}); run the workflow"
    if list(found.columns) != COLUMNS or len(own) != (mine := found["reported_by"].isna()).sum():
        return f"{path}: its rows are not those of the configuration"
    found = found[mine].reset_index(drop=True)
    same = (found == own) | (found.isna() & own.isna())
    wrong = own[~same.all(axis=1)]
    return (
        f"{path}: {wrong.iloc[0]['network']}/{wrong.iloc[0]['method']} is not what its record says"
        if len(wrong)
        else ""
    )


def _radii_flaw(record: Accuracy, network: Network, images: Array, labels: Labels, files: Sequence[Path]) -> str:
    """Whether the certificates prove the radii of a record."""
    below, _ = margins_at(network, images, labels)
    values: dict[Row, float] = {}
    around = np.zeros_like(below)
    for file in files:
        certificate = certificates.load(file)
        named = re.fullmatch(FILE, file.stem)
        if named is None:
            return f"{file.name} is of nothing known"
        row = () if named["i"] is None else (int(named["i"]), int(named["j"]))
        if flaw := _certificate_flaw(certificate, network, row):
            return f"{file.name} {flaw}"
        if named["image"] is None and isinstance(certificate, UpperCertificate):
            values[row] = certificate.value
        elif named["image"] is not None and isinstance(certificate, LocalCertificate) and len(row) == 2:
            k, j = int(named["image"]), row[1]
            if k >= len(images) or labels[k] != row[0] or not np.array_equal(certificate.point, images[k]):
                return f"{file.name} is of another image"
            reached = radii_of(below[k, j], np.array(certificate.value))
            around[k, j] = max(around[k, j], min(float(reached), certificate.radius))
        else:
            return f"{file.name} proves another kind of constant than its name says"
    if () not in values:
        return "no certificate of the network's constant"
    proved = np.maximum(radii_of(below, table_of(network, values)[labels]), around).min(axis=1)
    right = below.min(axis=1) > 0
    if (np.array(record.right) & ~right).any():
        return "not every image that the record calls right is so"
    short = np.flatnonzero(np.array(record.radii) > proved)
    return f"the radius of image {short[0]} is not proved" if short.size else ""


def _certificate_flaw(certificate: certificates.Certificate, network: Network, row: Row) -> str:
    n = network.shapes[-1][0]
    if any(not 0 <= i < n for i in row) or certificate.network.sha256 != with_row(network, row).sha256:
        return "is of another network"
    verification = verify(certificate)
    return "" if verification else f"does not hold: {verification.reason}"
