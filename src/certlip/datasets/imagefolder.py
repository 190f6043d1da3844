"""The user's own pictures: one folder a class, below train/ and test/."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from certlip.base.errors import ConfigError, DataError, NoData
from certlip.datasets import Dataset, DatasetInfo, Images, Labels, images_of
from certlip.datasets._torchvision import torchvision_datasets

INFO = DatasetInfo(title="Image folder", source="pictures of the user", downloads=False)


def fetch(folder: Path, /, *, size: Sequence[int], path: str = ".", grey: bool = False) -> Dataset:
    """The pictures ``train/<class>/*`` and ``test/<class>/*`` below `path`, which is relative to `folder`.

    size: [rows, columns] to which pictures of another size are resampled (bilinear); grey: one channel instead of
    three. Classes are numbered in alphabetical order.
    """
    if len(size) != 2 or min(size) < 1:
        raise ConfigError(f"data set 'imagefolder': size must be [rows, columns], not {size!r}")
    root = folder / path
    if not root.exists():
        raise NoData(
            f"the pictures of {root} are not there; put them into folders train/<class> and test/<class> below it",
            [str(root)],
        )
    train_images, train_labels, classes = read_pictures(root / "train", size, grey)
    test_images, test_labels, test_classes = read_pictures(root / "test", size, grey)
    if classes != test_classes:
        odd = sorted(set(classes) ^ set(test_classes))
        raise DataError(f"{root}: train and test must hold the same classes, but {odd[0]!r} is in one of them only")
    return Dataset(train_images, train_labels, test_images, test_labels, n_classes=len(classes))


def read_pictures(root: Path, size: Sequence[int], grey: bool) -> tuple[Images, Labels, list[str]]:
    """The pictures ``<class>/*`` below a folder, (n, channels, rows, columns) in [0, 1], their labels, the classes."""
    from PIL import Image

    try:
        listing = torchvision_datasets().ImageFolder(str(root))
    except OSError as error:
        reason = str(error).strip().split("\n")[0]
        raise DataError(f"{root} is no folder of one folder of pictures a class ({reason})") from error
    pixels = np.empty((len(listing.samples), *size, 1 if grey else 3), dtype=np.uint8)
    for index, (file, _) in enumerate(listing.samples):
        try:
            with Image.open(file) as opened:
                picture = opened.convert("L" if grey else "RGB").resize((size[1], size[0]), Image.Resampling.BILINEAR)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{file} is not a picture that can be read ({error}); repair it, or leave it out of the folder"
            ) from error
        pixels[index] = np.asarray(picture).reshape(*size, -1)
    labels = np.array([label for _, label in listing.samples], dtype=np.int64)
    return images_of(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)), 255), labels, listing.classes
