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

    The unpacked batches below `folder`, or ``cifar-10-python.tar.gz`` in it, are used if their checksums are
    torchvision's; else the archive is downloaded there from `url`, or by default from torchvision's.
    """
    source = torchvision_datasets().CIFAR10
    try:
        train = source(str(folder), train=True)
    except RuntimeError:  # not there, or damaged
        download("cifar10", [url or source.url], folder, source.filename, source.tgz_md5, by_hand=[source.filename])
        train = source(str(folder), train=True, download=True)
    return Dataset(*_arrays(train), *_arrays(source(str(folder), train=False)), n_classes=10)


def _arrays(part: Any) -> tuple[Images, Labels]:
    pixels: NDArray[np.uint8] = part.data.transpose(0, 3, 1, 2)
    return images_of(pixels, 255), np.array(part.targets, dtype=np.int64)
