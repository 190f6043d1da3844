"""What layers share: their types, and checks of their fields."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from certlip.base.errors import DataError
from certlip.base.files import whole

Array = NDArray[np.float64]
Shape = tuple[int, ...]
Pair = tuple[int, int]

MOST_ENTRIES = 2**31
"""Of a map, and most that any option of a layer may say: no machine holds more."""


def float64(name: str, field: str, array: Any) -> Array:
    """The array in float64, exactly: error bounds elsewhere are those of float64 arithmetic."""
    try:
        return np.asarray(array).astype(np.float64, casting="safe", copy=False)
    except TypeError as error:
        raise DataError(f"{name}: the {field} is not real float64 numbers; convert it first") from error


def to_float64(layer: Any, n_axes: int) -> None:
    """Make the weight, of so many axes, and the bias of a layer float64 arrays that fit each other."""
    for field in ("weight", "bias"):
        object.__setattr__(layer, field, float64(layer.name, field, getattr(layer, field)))
    weight, bias = layer.weight, layer.bias
    expect(weight.ndim == n_axes and weight.size > 0, layer.name, f"a weight of shape {weight.shape} does not fit")
    expect(bias.shape == weight.shape[:1], layer.name, f"a bias of shape {bias.shape} does not fit its weight")


def to_integers(owner: Any, field: str, count: int, least: int) -> None:
    """Make a field a tuple of so many integers; raises DataError naming the owner."""
    given = getattr(owner, field)
    try:
        values = tuple(map(whole, given))
    except TypeError:
        values = ()
    name = getattr(owner, "name", "network")
    fits = len(values) == count and all(least <= value <= MOST_ENTRIES for value in values)
    expect(fits, name, f"{field} cannot be {given}")
    object.__setattr__(owner, field, values)


def expect(condition: bool, name: str, complaint: str) -> None:
    """Raise DataError naming what the complaint is about, unless the condition holds."""
    if not condition:
        raise DataError(f"{name}: {complaint}")
