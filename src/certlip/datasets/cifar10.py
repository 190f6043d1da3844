"""CIFAR-10: 32x32 colour pictures of ten kinds of things."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certlip.datasets import Dataset, DatasetInfo, Images, Labels, images_of
from certlip.datasets._torchvision import download, torchvision_datasets

INFO = DatasetInfo(
    title="CIFAR-10",
    source="A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    downloads=True,
)


def fetch(folder: Path, /, *, url: str | None = None) -> Dataset:
    """50000 and 10000 images 3x32x32.

    ``cifar-10-python.tar.gz`` in `folder` is used if its checksum is torchvision's, else it is downloaded there from
    `url`, or by default from torchvision's; the unpacked files are verified again.
    """
    source = torchvision_datasets().CIFAR10
    base, _, _ = (url or source.url).rpartition("/")
    download("cifar10", [base], folder, source.filename, source.tgz_md5, together_with=[source.filename])
    train, test = (source(str(folder), train=train, download=True) for train in (True, False))
    return Dataset(*_arrays(train), *_arrays(test), n_classes=10)


def _arrays(part: Any) -> tuple[Images, Labels]:
    pixels: NDArray[np.uint8] = part.data.transpose(0, 3, 1, 2)
    return images_of(pixels, 255), np.array(part.targets, dtype=np.int64)
