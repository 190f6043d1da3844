"""Data sets by name: one file each, with ``INFO`` and ``fetch(folder, /, **options) -> Dataset``."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from certlip.base import plugins
from certlip.base.errors import ConfigError, DamagedFile, DataError
from certlip.base.files import read_npz, write_npz

Images = NDArray[np.float32]
Labels = NDArray[np.int64]

_LEVELS = (255, 16)
"""Pixels that are multiples of 1/255 (8-bit pictures) or 1/16 (scikit-learn's digits) are stored as whole numbers."""


@dataclass(frozen=True)
class DatasetInfo:
    """title: for tables; source: who made it and where it is published; downloads: whether `fetch` needs a network."""

    title: str
    source: str
    downloads: bool


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images in two parts.

    train_images, test_images: (n, channels, rows, columns) float32 in [0, 1]; train_labels, test_labels: (n,) int64 in
    [0, n_classes); details: how it came about (name, options), JSON-ready.

    Raises DataError where that does not hold.
    """

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    n_classes: int
    details: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            images, labels = getattr(self, f"{part}_images"), getattr(self, f"{part}_labels")
            if images.ndim != 4 or images.dtype != np.float32 or labels.dtype != np.int64:
                raise DataError(f"{part} images must be (n, channels, rows, columns) float32 and their labels int64")
            if not len(images) or labels.shape != (len(images),):
                raise DataError(f"there are {len(images)} {part} images and {labels.size} labels")
            if not (images.min() >= 0 and images.max() <= 1):
                raise DataError(f"{part} images have pixels outside [0, 1] or NaN")
            if labels.min() < 0 or labels.max() >= self.n_classes:
                raise DataError(f"{part} labels lie outside 0..{self.n_classes - 1}")
        if self.image_shape != self.test_images.shape[1:]:
            raise DataError(f"train images are {self.image_shape}, test images {self.test_images.shape[1:]}")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, rows, columns)."""
        return cast(tuple[int, int, int], self.train_images.shape[1:])

    def save(self, path: str | Path) -> None:
        """Write a .npz file without pickle, its arrays' sha256 in the header."""
        arrays: dict[str, Any] = {}
        levels: dict[str, int] = {}
        for name in _ARRAYS:
            arrays[name], steps = _compact(getattr(self, name))
            if steps:
                levels[name] = steps
        header = {"n_classes": self.n_classes, "details": self.details, "levels": levels, "sha256": _sha256(arrays)}
        write_npz(path, header, arrays)

    @classmethod
    def load(cls, path: str | Path) -> Dataset:
        """Read a file of `save`; raises DataError if it is missing, damaged or does not match its sha256."""
        header, loaded = read_npz(path)
        arrays = cast(dict[str, Any], loaded)
        if set(arrays) != set(_ARRAYS) or _sha256(arrays) != header.get("sha256"):
            raise DamagedFile(f"{path}: the arrays do not match their sha256", path)
        try:
            for name, steps in header["levels"].items():
                arrays[name] = images_of(arrays[name], int(steps))
            return cls(**arrays, n_classes=int(header["n_classes"]), details=dict(header["details"]))
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
            raise DamagedFile(f"{path} is not a data set ({error!r})", path) from error


_ARRAYS = tuple(f.name for f in fields(Dataset))[:4]


def names() -> list[str]:
    """Sorted names of the data sets."""
    return plugins.names(__name__)


def info(name: str) -> DatasetInfo:
    """Title and source of a data set; raises ConfigError if there is none of this name."""
    return plugins.load(__name__, name).INFO


def fetch(name: str, folder: str | Path, /, **options: Any) -> Dataset:
    """The data set of this name; what it downloads, or what was put there by hand, lies in `folder`.

    Raises ConfigError for an unknown name or option, DataError if the data cannot be had or is damaged.
    """
    plugin = plugins.load(__name__, name)
    parameters = list(inspect.signature(plugin.fetch).parameters.values())[1:]
    known = [p.name for p in parameters]
    for option in options:
        if option not in known:
            raise ConfigError(f"data set {name!r} has no option {option!r}{plugins.nearest(option, known)}")
    for parameter in parameters:
        if parameter.default is parameter.empty and parameter.name not in options:
            raise ConfigError(f"data set {name!r} needs the option {parameter.name!r}")
    defaults = {p.name: p.default for p in parameters}
    return replace(plugin.fetch(Path(folder), **options), details={"name": name, **defaults, **options})


def images_of(pixels: NDArray[np.uint8], levels: int) -> Images:
    """float32 images in [0, 1] of whole-numbered pixels in 0..levels."""
    return pixels.astype(np.float32) / np.float32(levels)


def _compact(array: NDArray[Any]) -> tuple[NDArray[Any], int | None]:
    """The array, as bytes and the number of levels where that loses nothing."""
    if array.dtype == np.float32:
        for levels in _LEVELS:
            pixels = np.rint(array * levels).astype(np.uint8)
            if np.array_equal(images_of(pixels, levels), array):
                return pixels, levels
    return array, None


def _sha256(arrays: dict[str, NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
