"""Constants of a network around a point: of increments from that point alone, within a radius.

Where |x - x0| <= r, the input y of each neuron lies within a distance rho of its value y0 at x0, and the quotients
(phi(y) - phi(y0)) / (y - y0) within an interval that may be much smaller than that of all slopes of phi. For ReLU

    y0 > 0: at least min(1, y0 / rho),        y0 < 0: at most max(0, 1 - |y0| / rho)

so that a neuron which keeps its side has slope one or zero. The matrix inequality of `certlip.proof.lmi` is about
increments, one neuron at a time: with these slopes it proves |f(x) - f(x0)| <= L |x - x0| for all |x - x0| <= r.

The distances come from matrices. With slopes in m +- h, an increment of y is C (x - x0) up to a remainder: C is the
product of the weights with the middles m between, and what h and rounding add to a row is bounded by row norms, by the
triangle inequality or Cauchy's, whichever is less.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from certlip.base.errors import NotCertified, UnsupportedLayer
from certlip.base.rounding import UNIT, multiply_up, up
from certlip.network import Activation, Array, Network
from certlip.network.chain import Chain
from certlip.network.slopes import along_channels
from certlip.proof import norms
from certlip.proof.certificate import LocalCertificate
from certlip.proof.certify import is_feasible
from certlip.proof.lmi import Lmi
from certlip.proof.tangent import SLOPE_ERROR, values_within

GRID = 2.0**20
"""Slopes are multiples of 1 / GRID, so that halves of sums and differences are exact."""
WIDTH = 2.0**-12
"""Least width of an interval of slopes where they are not zero: a multiplier tends to infinity as its interval becomes
a point, and so much costs next to nothing."""
INFLATION = 1 + 2.0**-30
"""Above all roundings of a sum of products of `MOST_TERMS` nonnegative numbers, and of some operations on it."""
MOST_TERMS = 2**20
MOST = 2.0**200
"""Largest weight: with the smallest distance below, what underflows in a square counts for nothing."""
LEAST = 2.0**-400
"""Added to each distance."""

Ends = tuple[Array, Array]
"""Smallest and largest slopes of the neurons of a layer, (n_i,) each."""


def slopes_around(network: Network, point: Array, radius: float) -> tuple[Ends, ...]:
    """Slopes of the neurons of each layer of activations, for increments from a point within a radius.

    They are wider than they need be: by one step of the grid, so that those of another machine, whose products are
    rounded otherwise, lie inside, and to `WIDTH` where they are not zero.
    network: a chain of linear layers with single activations between. Raises UnsupportedLayer for other networks,
    NotCertified where the weights are too large.
    """
    return _slopes(network, point, radius, None)


def _slopes(network: Network, point: Array, radius: float, given: Sequence[Ends] | None) -> tuple[Ends, ...]:
    """Those of `slopes_around`; or with slopes that are given, the least that each layer needs behind layers with them.

    Wider slopes in one layer do not make those of the next wider, since the middle between them is another.
    """
    chain = _plain_chain(network)
    values = values_within(network, point[None])
    found: list[Ends] = []
    reach = _Reach.of_input(len(chain.weights[0].T))
    constant = 1.0
    for layer, sources, shape in zip(network.layers, network.sources, network.shapes, strict=False):
        i = len(found)
        if i == len(chain.slopes):
            break
        if not isinstance(layer, Activation):
            constant = multiply_up([constant, norms.layer_constant(layer, shape)])
            continue
        before = (found if given is None else given)[i - 1] if i else None
        reach = reach.through(chain.weights[i], chain.radii[i], before, constant)
        constant = 1.0
        value, error = (part[0] for part in values[sources[0]])
        distances = up(radius) * reach.rows.reshape(value.shape) * INFLATION + LEAST
        found.append(_within(layer, value, error, distances, given is None))
    return tuple(found)


def inequality(network: Network, slopes: Sequence[Ends]) -> Lmi:
    """The matrix inequality of a chain with these slopes; neurons whose slope is zero are left out.

    Raises UnsupportedLayer by layer name, LimitExceeded where the matrices would be too large.
    """
    chain = _plain_chain(network)
    weights, radii, kept_slopes = list(chain.weights), list(chain.radii), []
    for i, (smallest, largest) in enumerate(slopes):
        kept = (smallest != 0) | (largest != 0)
        if not kept.any():
            kept[0], largest = True, np.where(np.arange(len(largest)) == 0, 1 / GRID, largest)
        weights[i], weights[i + 1] = weights[i][kept], weights[i + 1][:, kept]
        before, after = radii[i], radii[i + 1]
        radii[i] = None if before is None else before[kept]
        radii[i + 1] = None if after is None else after[:, kept]
        kept_slopes.append((smallest[kept], largest[kept]))
    return Lmi.of(replace(chain, weights=tuple(weights), radii=tuple(radii), slopes=tuple(kept_slopes)))


def local_flaw(certificate: LocalCertificate) -> str:
    """The first thing that does not hold of a certificate, in words; empty where all does."""
    network, point, radius = certificate.network, certificate.point, certificate.radius
    if point.shape != network.input_shape or not np.isfinite(point).all() or not 0 < radius < math.inf:
        return f"the point does not have the network's input shape {network.input_shape}, or the radius is none"
    widths = [len(weight) for weight in _plain_chain(network).weights[:-1]]
    if [[end.shape for end in ends] for ends in certificate.slopes] != [[(n,), (n,)] for n in widths]:
        return "there is not one pair of slopes a neuron"
    if not all(np.isfinite(end).all() for ends in certificate.slopes for end in ends):
        return "the slopes are not finite"
    needed = _slopes(network, point, radius, certificate.slopes)
    for (smallest, largest), (least, most) in zip(certificate.slopes, needed, strict=True):
        if not ((smallest <= least) & (most <= largest)).all():
            return f"within {radius:.6g} of the point some slopes are outside of those given"
    proved = is_feasible(inequality(network, certificate.slopes), certificate.rho, certificate.multipliers)
    return "" if proved else f"rho {certificate.rho:.6g} is not proved"


@dataclass(frozen=True, eq=False)
class _Reach:
    """How far the values of a layer move: increments are `centre` (x - x0) + E (x - x0).

    centre: None for the identity; row_errors: of each row of E, as a multiple of |x - x0|; error: of E as a whole;
    rows: how far each value moves at most, in units of |x - x0|; whole: how far all do together.
    """

    centre: Array | None
    row_errors: Array
    error: float
    rows: Array
    whole: float

    @classmethod
    def of_input(cls, n: int) -> _Reach:
        return cls(None, np.zeros(n), 0.0, np.ones(n), 1.0)

    def through(self, weight: Array, radius: Array | None, slopes: Ends | None, constant: float) -> _Reach:
        """Behind activations with these slopes, if there are any, and a matrix of norm `constant`.

        radius: elementwise distance of the matrix to the exact one, None where it is exact.
        """
        if max(weight.shape) > MOST_TERMS or np.abs(weight).max(initial=0.0) > MOST:
            raise NotCertified("the weights are too many or too large for the values around a point to be bounded")
        n_in = weight.shape[1]
        low, high = (np.zeros(n_in) + end for end in (slopes or (1.0, 1.0)))
        steepest = np.maximum(np.abs(low), np.abs(high))
        middle, half = (low + high) / 2, np.where(high > low, (high - low) / 2 * INFLATION + 2.0**-50 * steepest, 0.0)
        size = np.abs(weight)
        if self.centre is None:
            centre, of_centre, rounding = weight, np.ones(n_in), np.zeros(len(weight))
        else:
            centre, of_centre = weight @ (middle[:, None] * self.centre), _row_norms(self.centre)
            rounding = size @ (np.abs(middle) * of_centre) * (4 * n_in * UNIT)
        if radius is not None:
            rounding = rounding + radius @ (steepest * np.maximum(self.rows, of_centre))
        opened = min(self.whole, _norm(self.rows[half > 0]))
        carried = np.minimum(size @ (np.abs(middle) * self.row_errors), _row_norms(weight * middle) * self.error)
        added = np.minimum(size @ (half * self.rows), _row_norms(weight * half) * opened)
        row_errors = (rounding + carried + added) * INFLATION + LEAST
        passed = np.abs(middle).max(initial=0.0) * self.error + half.max(initial=0.0) * opened
        error = min(_norm(row_errors), (_norm(rounding) + constant * passed) * INFLATION + LEAST)
        direct = (_row_norms(weight * steepest) * self.whole + rounding) * INFLATION + LEAST
        rows = np.minimum((_row_norms(centre) + row_errors) * INFLATION, direct)
        whole = min(_norm(rows), constant * steepest.max(initial=0.0) * self.whole * INFLATION + LEAST)
        return _Reach(centre, row_errors, error, rows, whole)


def _row_norms(matrix: Array) -> Array:
    """Rounded up."""
    norms_of_rows: Array = np.sqrt(np.einsum("ij,ij->i", matrix, matrix)) * INFLATION + LEAST
    return norms_of_rows


def _norm(vector: Array) -> float:
    """Rounded up."""
    return float(np.sqrt(vector @ vector)) * INFLATION + LEAST


@np.errstate(over="ignore", invalid="ignore", divide="ignore")
def _within(layer: Activation, value: Array, error: Array, distances: Array, widened: bool) -> Ends:
    """Slopes of increments of at most `distances` from value +- error, on the grid; widened: see `slopes_around`."""
    low, high = np.nextafter(value - error, -np.inf), np.nextafter(value + error, np.inf)
    least, most = (np.zeros(value.shape) + along_channels(end, value.ndim) for end in layer.slopes)
    if layer.kind == "relu":
        smallest = np.where(low > 0, np.nextafter(low / distances, 0.0), 0.0)
        largest = np.where(high < 0, np.nextafter(1 + np.nextafter(high / distances, np.inf), np.inf), 1.0)
    else:
        ends = np.nextafter(low - distances, -np.inf), np.nextafter(high + distances, np.inf)
        smallest, largest = (end[0] for end in layer.slopes_within(ends[0][None], ends[1][None], SLOPE_ERROR))
    step = 1.0 if widened else 0.0
    smallest, largest = (np.floor(smallest * GRID) - step) / GRID, (np.ceil(largest * GRID) + step) / GRID
    known = np.isfinite(low) & np.isfinite(high) & np.isfinite(distances)
    smallest = np.where(known & ~np.isnan(smallest), np.clip(smallest, least, most), least)
    largest = np.where(known & ~np.isnan(largest), np.clip(largest, least, most), most)
    if widened:
        is_zero = (smallest == 0) & (largest == 0)
        smallest = np.where(is_zero, smallest, np.maximum(np.minimum(smallest, largest - WIDTH), least))
    return smallest.ravel(), largest.ravel()


def _plain_chain(network: Network) -> Chain:
    """Raises UnsupportedLayer unless each activation is alone between two linear layers."""
    chain = Chain.of(network)
    n_activations = sum(isinstance(layer, Activation) for layer in network.layers)
    if n_activations != len(chain.slopes) or chain.scale != 1:
        raise UnsupportedLayer("constants around a point are of linear layers with single activations between")
    return chain
