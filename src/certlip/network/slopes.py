"""Slopes of a layer of activations: each difference quotient of a neuron lies between its smallest and its largest.

Two numbers where all neurons are alike, else two arrays with an entry a neuron.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Slope = float | Floats
Slopes = tuple[Slope, Slope]
"""(smallest, largest)."""

NARROW = 1e-5
"""Least half width of an interval of slopes, in units of its steepest, that a multiplier is computed from.

A neuron that only carries its value, with slopes [1, 1], would have an infinite multiplier. With this one the square of
the bound is about twice this share larger for each layer of such neurons, and the proof loses what the rounding of its
largest terms is, divided by this: measured, both are alike at an order of some thousand.
"""


def slopes_of(smallest: Floats, largest: Floats) -> Slopes:
    """From arrays, as two numbers where all neurons are alike."""
    if smallest.size and (smallest == smallest.flat[0]).all() and (largest == largest.flat[0]).all():
        return float(smallest.flat[0]), float(largest.flat[0])
    return smallest, largest


def are_identity(slopes: Slopes) -> bool:
    """Whether every neuron carries its value unchanged."""
    return not isinstance(slopes[0], np.ndarray) and slopes == (1.0, 1.0)


def are_narrow(slopes: Slopes) -> bool:
    """Whether some neurons have no interval as wide as `half_widths` says."""
    a, b = slopes
    return bool(np.any(half_widths(slopes) > (b - a) / 2))


def steepest(slopes: Slopes) -> float:
    """The largest absolute value of all neurons."""
    return float(np.max(steepest_each(slopes), initial=0.0))


def steepest_each(slopes: Slopes) -> Slope:
    """The largest absolute value of each neuron."""
    a, b = slopes
    return _plain(np.maximum(np.abs(a), np.abs(b)))


def middles(slopes: Slopes) -> Slope:
    """(smallest + largest) / 2 of each neuron."""
    a, b = slopes
    return (a + b) / 2


def half_widths(slopes: Slopes) -> Slope:
    """(largest - smallest) / 2 of each neuron, or `NARROW` times its steepest where that is more."""
    a, b = slopes
    return _plain(np.maximum((b - a) / 2, NARROW * steepest_each(slopes)))


def widened(slopes: Slopes) -> Slopes:
    """The slopes with these half widths: what multipliers prove for them is so for those inside."""
    a, b = slopes
    m, h = middles(slopes), half_widths(slopes)
    narrow = h > (b - a) / 2
    return _plain(np.where(narrow, m - h, a)), _plain(np.where(narrow, m + h, b))


def of_neurons(slopes: Slopes, places: NDArray[np.bool_] | NDArray[np.intp]) -> Slopes:
    """The slopes of some neurons."""
    a, b = slopes
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return slopes_of(a[places], b[places])
    return slopes


def over_pixels(slopes: Slopes, n_pixels: int) -> Slopes:
    """The slopes of the flattened neurons of a map, from those of its channels."""
    a, b = slopes
    return (np.repeat(a, n_pixels), np.repeat(b, n_pixels)) if isinstance(a, np.ndarray) else slopes


def along_channels(values: Slope, n_axes: int) -> Slope:
    """Values a channel, shaped to be broadcast over maps with so many axes; a number as it is."""
    return values.reshape(-1, *[1] * (n_axes - 1)) if isinstance(values, np.ndarray) else values


def compose(first: Slopes, second: Slopes) -> Slopes:
    """Of one elementwise function after another."""
    ends = np.stack(np.broadcast_arrays(*(np.multiply(a, b) for a in first for b in second)))
    low, high = ends.min(axis=0), ends.max(axis=0)
    exact = _are_units(first) | _are_units(second)
    below, above = np.nextafter(low, -np.inf), np.nextafter(high, np.inf)
    return slopes_of(np.where(exact, low, below), np.where(exact, high, above))


def _are_units(slopes: Slopes) -> NDArray[np.bool_]:
    a, b = slopes
    return np.asarray(np.isin(np.abs(a), (0.0, 1.0)) & np.isin(np.abs(b), (0.0, 1.0)))


def _plain(values: Floats) -> Slope:
    return values if values.ndim else float(values)
