"""Labelled images from a file or a folder, in the unit of a network's input."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from certlip.base.errors import DataError
from certlip.certify.margins import n_outputs
from certlip.certify.radii import Labels
from certlip.config import Network as NetworkEntry
from certlip.datasets import Dataset
from certlip.datasets.imagefolder import read_pictures
from certlip.network import Array, Network, Shape


def read_images(path: str | Path, network: Network) -> tuple[Array, Labels]:
    """Images (n, *input_shape) in float64, exactly as stored, and labels (n,).

    path: a .npz file with arrays ``images`` and ``labels``; a data set of a run (results/datasets/NAME.npz), whose test
    part is read; or a folder of one folder of pictures a class, in alphabetical order, scaled to the input's size,
    pixels in [0, 1].
    Raises DataError where these are missing, damaged, or do not fit the network.
    """
    path = Path(path)
    images, labels = _of_folder(path, network.input_shape) if path.is_dir() else _of_file(path)
    return checked(images, labels, network, str(path))


def first_images(path: str | Path, network: Network, n: int, entry: Mapping[str, Any]) -> tuple[Array, Labels]:
    """The first n test images of a data set of a run as the network of an entry takes them, and their labels."""
    standardise = NetworkEntry.model_validate(entry).standardise
    dataset = Dataset.load(path)
    pixels = dataset.test_images[:n].astype(np.float64)
    images = pixels if standardise is None else standardise.applied(pixels)
    return checked(images, dataset.test_labels[:n], network, str(path))


def checked(images: Any, labels: Any, network: Network, where: str = "images") -> tuple[Array, Labels]:
    """Images in float64 and labels in int64 that fit the network; where: begins the sentence of a DataError."""
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype.kind != "f" or images.dtype.itemsize > 8:
        numbers = "give the numbers that the network takes, as float32 or float64"
        raise DataError(f"{where}: images of type {images.dtype}; {numbers}")
    given, shape = images.shape[1:], network.input_shape
    one_is_flat = 1 in (len(given), len(shape)) and math.prod(given) == math.prod(shape)
    if not (given == shape or one_is_flat) or not len(images):
        takes = f"(n, {', '.join(map(str, shape))})"
        raise DataError(f"{where}: images of shape {images.shape}, and the network takes {takes}")
    if not np.isfinite(images).all():
        raise DataError(f"{where}: images with NaN or infinite numbers")
    n = n_outputs(network)
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1] or labels.min() < 0 or labels.max() >= n:
        raise DataError(f"{where}: labels must be {len(images)} whole numbers in 0 to {n - 1}, one an image")
    return images.astype(np.float64).reshape(len(images), *shape), labels.astype(np.int64)


def _of_file(path: Path) -> tuple[Any, Any]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if "header" not in arrays:
                return arrays["images"], arrays["labels"]
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist; give a .npz file or a folder of pictures") from error
    except (OSError, KeyError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        needed = "needed are the arrays `images` and `labels`, as numpy.savez writes them"
        raise DataError(f"{path} is no .npz file of images; {needed}") from error
    dataset = Dataset.load(path)
    return dataset.test_images, dataset.test_labels


def _of_folder(path: Path, input_shape: Shape) -> tuple[Any, Any]:
    if len(input_shape) != 3 or input_shape[0] not in (1, 3):
        raise DataError(f"{path}: pictures do not fit an input of shape {input_shape}; give a .npz file")
    images, labels, _ = read_pictures(path, input_shape[1:], grey=input_shape[0] == 1)
    return images, labels
