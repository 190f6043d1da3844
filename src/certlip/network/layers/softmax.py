"""Softmax and its logarithm along an axis."""

from __future__ import annotations

from dataclasses import dataclass

import scipy

from certlip.base.files import whole
from certlip.network.layers.base import Array, Shape, expect


@dataclass(frozen=True)
class Softmax:
    """p = exp(x) / sum exp(x) along an axis of one example, or log p.

    The Jacobian of p is diag(p) - p p', whose eigenvalues are at least zero and at most max_i 2 p_i (1 - p_i) <= 1/2
    (Gershgorin; p = (1/2, 1/2, 0, ...) attains it). That of log p is I - 1 p', a projection, whose norm is that of
    1 p': sqrt(n) |p|, at most sqrt(n), approached at the corners. Both are zero for n = 1.
    """

    name: str
    axis: int
    log: bool = False

    def __post_init__(self) -> None:
        expect(isinstance(self.log, bool), self.name, f"log cannot be {self.log}")

    def output_shape(self, shape: Shape) -> Shape:
        expect(0 <= whole(self.axis) < len(shape), self.name, f"there is no axis {self.axis} of {shape}")
        return shape

    def apply(self, values: Array) -> Array:
        function = scipy.special.log_softmax if self.log else scipy.special.softmax
        found: Array = function(values, axis=self.axis + 1)
        return found
