"""A block below the diagonal of the matrix inequality: a weight matrix whose rows and columns are scaled."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certlip.network import Array

Places = NDArray[np.intp] | slice
"""Neurons of a layer, in any order."""

ALL = slice(None)


@dataclass(frozen=True, eq=False)
class Coupling:
    """diag(rows) W diag(columns), W of shape (n_i, n_{i-1})."""

    weight: Array
    rows: Array
    columns: Array

    def entries(self, rows: Places = ALL, columns: Places = ALL) -> Array:
        """Those of some rows and columns, copied. Two roundings each, rows first: `Lmi.error` counts on it."""
        block, left, right = _cut(self.weight, rows, columns), self.rows[rows], self.columns[columns]
        with np.errstate(over="ignore", invalid="ignore"):
            if len(right) and (right == right[0]).all():
                return block * (left * right[0])[:, None]
            block = block * left[:, None]
            block *= right
        return block


def _cut(matrix: Array, rows: Places, columns: Places) -> Array:
    if isinstance(rows, slice):
        matrix = matrix[rows]
        return matrix[:, columns] if isinstance(columns, slice) else matrix.take(columns, axis=1)
    if isinstance(columns, slice):
        return matrix[:, columns].take(rows, axis=0)
    n_rows, n_columns = matrix.shape
    if len(rows) * n_columns < n_rows * len(columns):
        return matrix.take(rows, axis=0).take(columns, axis=1)
    return matrix.take(columns, axis=1).take(rows, axis=0)
