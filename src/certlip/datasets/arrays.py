"""Images and labels in two .npy files of the user, or of a publication."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from certlip.base.errors import DataError, NoData
from certlip.datasets import Dataset, DatasetInfo

INFO = DatasetInfo(title="Arrays", source="files of the user", downloads=False)


def fetch(
    folder: Path, /, *, images: str, labels: str, n_classes: int = 10, axes: Sequence[int] = (0, 1, 2, 3)
) -> Dataset:
    """The images of one .npy file and the labels of another, both relative to `folder`; all are train and test images.

    images: (n, channels, rows, columns) in [0, 1] in single precision, once its axes are in the order `axes`, which for
    (n, rows, columns, channels) is [0, 3, 1, 2].
    """
    pixels, numbers = (_read(folder / name) for name in (images, labels))
    if pixels.ndim != 4 or sorted(axes) != [0, 1, 2, 3]:
        raise DataError(f"{folder / images}: an array of shape {pixels.shape}, which axes {list(axes)} do not order")
    if numbers.dtype.kind not in "iu":
        raise DataError(f"{folder / labels}: labels of type {numbers.dtype}; needed are whole numbers")
    if pixels.dtype != np.float32:
        raise DataError(f"{folder / images}: pixels of type {pixels.dtype}; needed are those of type float32 in [0, 1]")
    pixels, numbers = np.ascontiguousarray(pixels.transpose(axes)), numbers.astype(np.int64)
    return Dataset(pixels, numbers, pixels, numbers, n_classes)


def _read(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise NoData(f"{path} is not there; put it there by hand", [str(path)]) from error
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"{path} is no .npy file of numbers ({error})") from error
