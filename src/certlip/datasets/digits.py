"""Handwritten digits, 8x8, bundled with scikit-learn: no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from certlip.base.errors import ConfigError
from certlip.datasets import Dataset, DatasetInfo, images_of

INFO = DatasetInfo(
    title="Digits 8x8",
    source="E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI (test part), in scikit-learn",
    downloads=False,
)


def fetch(folder: Path, /, *, test_fraction: float = 0.25, seed: int = 0) -> Dataset:
    """1797 images 1x8x8, split at random by `seed` with all classes in proportion; `folder` is not used."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = images_of(digits.images.astype(np.uint8)[:, None], 16)
    labels = digits.target.astype(np.int64)
    try:
        parts = train_test_split(images, labels, test_size=test_fraction, random_state=seed, stratify=labels)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"data set 'digits' cannot be split with test_fraction={test_fraction!r}: {error}") from error
    train_images, test_images, train_labels, test_labels = parts
    return Dataset(train_images, train_labels, test_images, test_labels, n_classes=10)
