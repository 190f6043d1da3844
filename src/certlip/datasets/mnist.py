"""MNIST: handwritten digits, 28x28."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from certlip.base.errors import DataError
from certlip.datasets import Dataset, DatasetInfo, images_of
from certlip.datasets._torchvision import download, torchvision_datasets

INFO = DatasetInfo(
    title="MNIST",
    source="Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits",
    downloads=True,
)


def fetch(folder: Path, /, *, mirrors: Sequence[str] = ()) -> Dataset:
    """60000 and 10000 images 1x28x28.

    The four files in ``folder/MNIST/raw`` are used if their checksums are torchvision's, else they are downloaded
    there from `mirrors` (web addresses of folders, http or https), or by default from torchvision's.
    """
    source = torchvision_datasets().MNIST
    raw = folder / "MNIST" / "raw"
    checksums = dict(source.resources)
    for file, md5 in checksums.items():
        urls = [f"{mirror.rstrip('/')}/{file}" for mirror in mirrors or source.mirrors]
        download("mnist", urls, raw, file, md5, by_hand=list(checksums))
    return Dataset(
        images_of(read_idx(raw / "train-images-idx3-ubyte.gz")[:, None], 255),
        read_idx(raw / "train-labels-idx1-ubyte.gz").astype(np.int64),
        images_of(read_idx(raw / "t10k-images-idx3-ubyte.gz")[:, None], 255),
        read_idx(raw / "t10k-labels-idx1-ubyte.gz").astype(np.int64),
        n_classes=10,
    )


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of bytes in a gzipped IDX file; raises DataError if it is none."""
    try:
        content = gzip.decompress(path.read_bytes())
        zeros, kind, n_axes = struct.unpack_from(">HBB", content)
        shape = struct.unpack_from(f">{n_axes}I", content, 4)
        if (zeros, kind) != (0, 0x08):
            raise ValueError("not an IDX file of bytes")
        return np.frombuffer(content, np.uint8, offset=4 + 4 * n_axes).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error) as error:
        raise DataError(f"{path} is damaged ({error}); put the published file in its place") from error
