"""Exact arithmetic with whole arrays: doubles are integers times a power of two, and so are their sums and products."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class Exact:
    """integers * 2^exponent; integers: an array of Python integers of any length."""

    integers: Any
    exponent: int

    @classmethod
    def of(cls, array: Any) -> Exact:
        """An array of finite doubles."""
        mantissas, exponents = np.frexp(np.asarray(array, dtype=np.float64))
        integers = np.ldexp(mantissas, 53).astype(np.int64).astype(object)
        exponents = np.where(mantissas == 0, 2000, exponents - 53)
        lowest = int(exponents.min(initial=2000))
        return cls(integers << np.where(mantissas == 0, 0, exponents - lowest).astype(object), lowest)

    def __add__(self, other: Exact) -> Exact:
        lowest = min(self.exponent, other.exponent)
        mine, others = self.integers << (self.exponent - lowest), other.integers << (other.exponent - lowest)
        return Exact(mine + others, lowest)

    def __neg__(self) -> Exact:
        return Exact(-self.integers, self.exponent)

    def __sub__(self, other: Exact) -> Exact:
        return self + -other

    def __mul__(self, other: Exact) -> Exact:
        return Exact(self.integers * other.integers, self.exponent + other.exponent)

    def __matmul__(self, other: Exact) -> Exact:
        return Exact(self.integers @ other.integers, self.exponent + other.exponent)

    def __getitem__(self, index: Any) -> Exact:
        return Exact(self.integers[index], self.exponent)

    @property
    def T(self) -> Exact:
        return Exact(self.integers.T, self.exponent)


def stack(parts: list[list[Exact | None]], sizes: list[int]) -> Exact:
    """A block matrix; None for zeros."""
    lowest = min(part.exponent for row in parts for part in row if part is not None)
    rows = [
        np.concatenate(
            [
                np.zeros((m, n), dtype=object) if part is None else part.integers << (part.exponent - lowest)
                for part, n in zip(row, sizes, strict=True)
            ],
            axis=1,
        )
        for row, m in zip(parts, sizes, strict=True)
    ]
    return Exact(np.concatenate(rows), lowest)


def diagonal(vector: Exact) -> Exact:
    return Exact(np.diag(vector.integers), vector.exponent)


def is_semidefinite(matrix: Exact) -> bool:
    """Whether a symmetric matrix is positive semidefinite: elimination without fractions (Bareiss 1968)."""
    left, previous = matrix.integers, 1
    while len(left):
        pivot = left[0, 0]
        if pivot < 0 or (pivot == 0 and any(left[0])):
            return False
        rest = left[1:, 1:]
        if pivot:
            rest = (rest * pivot - np.multiply.outer(left[1:, 0], left[0, 1:])) // previous
            previous = pivot
        left = rest
    return True


def dominates(bound: float, matrix: Exact) -> bool:
    """Whether bound >= the spectral norm of a matrix."""
    gram = matrix.T @ matrix if matrix.integers.shape[0] >= matrix.integers.shape[1] else matrix @ matrix.T
    square = Exact.of(np.full(len(gram.integers), bound))
    return is_semidefinite(diagonal(square * square) - gram)
