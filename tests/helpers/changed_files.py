"""Files of certlip with one number changed, each in turn."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import certlip
from certlip.base.errors import DataError
from certlip.base.files import read_npz, write_npz


def after_each_change(path: Path) -> tuple[int, list[float]]:
    """How many of the changed files are refused, and the values that the others prove."""
    n_refused, proved = 0, []
    for header, arrays in changed_files(path):
        write_npz(path, header, arrays)
        try:
            verification = certlip.verify(path)
        except DataError:
            n_refused += 1
            continue
        n_refused += not verification.ok
        if verification.ok:
            assert verification.value is not None
            proved.append(verification.value)
    return n_refused, proved


def changed_files(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The file with one number of its header or arrays changed, in turn."""
    header, arrays = read_npz(path)
    for place in numbers(header):
        for change in (lambda x: x + 1, lambda x: x / 2, lambda x: -x, lambda x: 0, lambda x: math.nan, str):
            changed = copy.deepcopy(header)
            owner = changed
            for key in place[:-1]:
                owner = owner[key]
            owner[place[-1]] = change(owner[place[-1]])
            yield changed, arrays
    for key, array in arrays.items():
        for index in list(np.ndindex(array.shape))[:6]:
            for factor in (1 + 1e-9, 0.99, 2.0, -1.0, 0.0, math.inf, math.nan):
                other = array.copy()
                other[index] = factor if other[index] == 0 else factor * float(other[index])
                yield header, {**arrays, key: other}
        yield header, {**arrays, key: np.atleast_1d(array)[:-1]}
        yield header, {**arrays, key: array[None]}
        yield header, {k: v for k, v in arrays.items() if k != key}


def numbers(tree: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Places of all numbers in nested dictionaries and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        if isinstance(value, int | float):
            yield (*place, key)
        else:
            yield from numbers(value, (*place, key))
