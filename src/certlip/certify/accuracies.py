"""Certified accuracy as the workflow keeps it: a record a network and method, an attack a network, rows of radii."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from certlip.base.errors import DamagedFile, Refusal
from certlip.base.files import floats, number, read_npz, write_npz
from certlip.base.model import FileModel
from certlip.base.record import Status
from certlip.base.rounding import coarsen_down, coarsen_up, up
from certlip.certify.attack import distances_up
from certlip.certify.certification import Certification
from certlip.certify.radii import Labels
from certlip.network import Array

if TYPE_CHECKING:
    import pandas as pd

N_POINTS = 120
"""Radii of a curve, besides those asked for."""
BEYOND = 1.25
"""Where a curve ends, in units of the largest radius asked for."""


@dataclass(frozen=True, eq=False)
class Attacked:
    """What an attack on the first images of a data set found; saved for all methods of a network.

    places: (m,) numbers of the images that it changed, in order; points: (m, *input_shape), where the network is proved
    to be wrong; images_sha256: `sha256_of` all that were attacked; seconds: of wall time.
    """

    places: Labels
    points: Array
    images_sha256: str
    seconds: float

    def nearest(self, images: Array) -> Array:
        """Distance of each image from its point, rounded up, infinite without one: (n,)."""
        distances = np.full(len(images), np.inf)
        if len(self.places):
            distances[self.places] = distances_up(images[self.places], self.points)
        return distances

    def save(self, path: str | Path) -> None:
        """Write a .npz file that `load` reads without pickle."""
        header = {"images_sha256": self.images_sha256, "seconds": self.seconds}
        write_npz(path, header, {"places": self.places, "points": self.points})

    @classmethod
    def load(cls, path: str | Path) -> Attacked:
        """Read a file of `save`; raises NoBound where a refusal lies in its place, DataError if it is damaged."""
        header, arrays = read_npz(path)
        try:
            points, places = floats(arrays["points"]), arrays["places"].astype(np.int64)
            if places.shape != points.shape[:1] or (np.diff(places) <= 0).any() or (places < 0).any():
                raise ValueError("not one point an image")
            return cls(places, points, str(header["images_sha256"]), number(header["seconds"]))
        except (LookupError, TypeError, ValueError) as error:
            raise DamagedFile(f"{path} does not hold an attack", path) from error


def sha256_of(images: Array, labels: Labels) -> str:
    """Of labelled images, shapes included; the same on every machine."""
    digest = hashlib.sha256(f"{images.shape} ".encode())
    digest.update(np.ascontiguousarray(images, dtype="<f8").tobytes())
    digest.update(np.ascontiguousarray(labels, dtype="<i8").tobytes())
    return digest.hexdigest()


class Accuracy(FileModel):
    """What a method certifies of the predictions of a network, or why it certifies nothing.

    unit: of the network's input, in pixels; wanted: radii asked for, in that unit as all others; right: of each image,
    whether the network is proved right; radii: within which it is proved to stay so, one asked for or rounded down to
    nine digits; nearest: distance of the nearest point where it is proved wrong, rounded up, None where none was found;
    n_bounded: pairs with a constant of their own; n_local: constants around images; left_open: pairs that some image
    needs and the budget left out; seconds: for all constants; attack_seconds: of the attack, which all methods share.
    """

    noun: ClassVar = "record of certified accuracy"

    network: str
    method: str
    options: Mapping[str, Any] = {}
    status: Status = Status.OK
    reason: str = ""
    unit: float = 1.0
    wanted: tuple[float, ...] = ()
    right: tuple[bool, ...] = ()
    radii: tuple[float, ...] = ()
    nearest: tuple[float | None, ...] = ()
    n_bounded: int = 0
    n_local: int = 0
    left_open: tuple[tuple[int, int], ...] = ()
    seconds: float = 0.0
    attack_seconds: float = 0.0
    weights_sha256: str | None = None
    images_sha256: str | None = None
    code: str = ""
    versions: Mapping[str, str] = {}
    host: str = ""
    started_at: str = ""

    def model_post_init(self, context: Any) -> None:
        if not len(self.right) == len(self.radii) == len(self.nearest):
            raise ValueError("not one radius and distance an image")
        if (self.status is Status.OK) != bool(self.right):
            raise ValueError(f"status {self.status} with {len(self.right)} images")

    @classmethod
    def of(cls, found: Certification, attacked: Attacked | None, **more: Any) -> Accuracy:
        """Of what was found; more: the other fields."""
        nearest = [None if math.isinf(d) else coarsen_up(float(d)) for d in found.nearest]
        radii = np.minimum(found.radii, np.finfo(np.float64).max).tolist()
        return cls(
            wanted=found.wanted,
            right=tuple(map(bool, found.right)),
            radii=tuple(r if r in found.wanted else coarsen_down(r) for r in radii),
            nearest=tuple(nearest),
            n_bounded=found.n_bounded,
            n_local=found.n_local,
            left_open=found.left_open,
            seconds=found.seconds,
            attack_seconds=attacked.seconds if attacked else 0.0,
            images_sha256=attacked.images_sha256 if attacked else None,
            **more,
        )

    @classmethod
    def refused(cls, refusal: Refusal, **more: Any) -> Accuracy:
        """Of a network or data set that there is none of, or a method that gives no constant."""
        return cls(status=Status(refusal.status), reason=refusal.reason, **more)

    @property
    def clean(self) -> float:
        """Share of images at which the network is proved right."""
        return sum(self.right) / len(self.right)

    def certified(self, radius: float) -> float:
        """Share of images proved to stay right within a radius: at or below the truth."""
        return sum(right and r >= radius for right, r in zip(self.right, self.radii, strict=True)) / len(self.right)

    def attacked(self, radius: float) -> float:
        """Share of images for which no wrong point is known within a radius: at or above the truth."""
        return sum(distance is None or distance > radius for distance in self.nearest) / len(self.right)


COLUMNS = [
    *("network", "method", "radius", "asked", "certified", "clean", "attacked", "n_images", "n_bounded", "n_local"),
    *("n_left_open", "seconds", "attack_seconds", "status", "reason", "reported_by"),
]


def collect(records: Iterable[Accuracy], reported: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Rows of accuracies over radii, in pixels, with the columns of `COLUMNS`.

    Of each record a row for each radius asked for, and for more radii of a curve; one row where it has no images. Of
    each network a row for each figure that a publication reports of it. reported: name of a network to
    `certlip.config.Reported`.
    """
    import pandas as pd

    records = list(records)
    rows = [row for record in records for row in _rows(record)]
    networks = dict.fromkeys(record.network for record in records)
    rows += [row for network in networks for row in _reported_rows(network, reported.get(network))]
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(record: Accuracy) -> list[dict[str, Any]]:
    common = {
        **{name: getattr(record, name) for name in ("network", "method", "n_bounded", "n_local", "seconds")},
        **{name: getattr(record, name) for name in ("attack_seconds", "reason")},
        "n_images": len(record.right),
        "n_left_open": len(record.left_open),
        "status": str(record.status),
        "reported_by": "",
    }
    if record.status is not Status.OK:
        return [{**common, "asked": True}]
    grid = np.linspace(0.0, BEYOND * max(record.wanted), N_POINTS).tolist()
    places = sorted([*((r, False) for r in grid if r not in record.wanted), *((r, True) for r in record.wanted)])
    return [
        {
            **common,
            "radius": float(f"{radius * record.unit:.12g}"),
            "asked": asked,
            "certified": record.certified(radius),
            "clean": record.clean,
            "attacked": record.attacked(radius),
        }
        for radius, asked in places
    ]


def _reported_rows(network: str, reported: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    accuracy = (reported or {}).get("accuracy")
    if not (reported and accuracy):
        return []
    common = {"network": network, "radius": accuracy["radius"], "asked": True, "attacked": accuracy["attacked"]}
    common |= {"status": str(Status.OK), "reason": "", "reported_by": f"{reported['source']}: {reported['note']}"}
    return [{**common, "method": name, "certified": share} for name, share in accuracy["certified"].items()]


def in_units(radii: Sequence[float], unit: float) -> list[float]:
    """Radii in pixels in the unit of a network's input, rounded up."""
    return [radius if unit == 1 else up(radius / unit) for radius in radii]
