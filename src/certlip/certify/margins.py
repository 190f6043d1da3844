"""Certified constants of margins: |(f_i - f_j)(x) - (f_i - f_j)(y)| <= L_ij |x - y|, Euclidean norms.

Three ways, each from certified bounds of networks that are the given one with at most one dense layer more:

    pair       L_ij = constant of f_i - f_j: behind the network the row with 1 at i and -1 at j
    outputs    L_ij = L_i + L_j, the constants of f_i and f_j: behind it the row with 1 at i
    network    L_ij = sqrt(2) L, the constant of f: |e_i - e_j| = sqrt(2)

Rows of zeros and ones are exact. Where the product of such a row with the last layer is formed, its rounding is counted
(`certlip.network.chain.multiply`); a rounded w_i - w_j would be another network. For LipSDP the first way is the
smallest, up to its gap: multipliers that prove L_i^2 and L_j^2, or 2 L^2, add up to some that prove the other two.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, get_args

import joblib
import numpy as np
from numpy.typing import NDArray

from certlip.base.errors import ConfigError, DataError, LimitExceeded
from certlip.base.record import Kind, Record
from certlip.base.rounding import add_up, multiply_up, sqrt_up
from certlip.network import Array, Dense, Network, Shape
from certlip.proof.certificate import UpperCertificate
from certlip.run import bound, subject_of

if TYPE_CHECKING:
    from torch import nn

Way = Literal["pair", "outputs", "network"]

Row = tuple[int, ...]
"""What is bounded: () for f, (i,) for f_i, (i, j) for f_i - f_j."""

_NAMES = "network", "output", "margin"
"""Of a row without, with one, with two outputs."""


@dataclass(frozen=True, eq=False)
class Margin:
    """A certified constant of f_i - f_j.

    value: L_ij; way: where it is from; certificates: what proves it, one for each row of the way; seconds: that these
    took; reason: what there is to say of them.
    """

    value: float
    way: Way
    certificates: tuple[UpperCertificate, ...]
    seconds: float
    reason: str = ""


def margins(
    model: Network | nn.Module,
    input_shape: Shape | None = None,
    method: str = "lipsdp",
    pairs: Literal["all"] | Iterable[tuple[int, int]] = "all",
    *,
    ways: Sequence[Way] = ("pair",),
    n_jobs: int = 1,
    **options: Any,
) -> dict[tuple[int, int], Margin]:
    """Certified constants L_ij of f_i - f_j, the smallest that the ways give.

    model, input_shape: as of `certlip.bound`; pairs: ``all`` or some (i, j), the keys of the result; L_ij = L_ji is
    bounded once; ways: of ``pair`` (a bound for each pair), ``outputs`` (one for each output) and ``network`` (one),
    which is taken too where the others give none; n_jobs: bounds side by side; options: of `certlip.bound`, its limits
    among them, and of the method.

    Raises ConfigError for unknown names or outputs, or a method that does not certify; UnsupportedLayer,
    LimitExceeded, ... where the network has no bound either.

        margins = certlip.margins(model, (1, 28, 28), pairs=[(3, 5)])
        margins[3, 5].value, certlip.verify(margins[3, 5].certificates[0]).ok
    """
    network = subject_of(model, input_shape).network()
    every = itertools.combinations(range(n_outputs(network)), 2)
    asked = [(int(i), int(j)) for i, j in (every if isinstance(pairs, str) else pairs)]
    for pair in asked:
        _expect_outputs(network, pair)
    if not ways or not {*ways} <= {*get_args(Way)}:
        raise ConfigError(f"there is no such way to a margin as {ways!r}; take some of {', '.join(get_args(Way))}")
    constants = Constants(network, method, options, n_jobs)
    constants.find(row for way in ways for i, j in asked for row in rows_of(way, i, j))
    if not all(constants.have(i, j, ways) for i, j in asked):
        ways = [*ways, "network"]
        constants.find([()])
    return {(i, j): constants.margin(i, j, ways) for i, j in asked}


def n_outputs(network: Network) -> int:
    """Raises DataError where a network does not have one number for each of some classes."""
    shape = network.shapes[-1]
    if len(shape) != 1 or shape[0] < 2:
        raise DataError(f"margins are of networks with one number a class, and this one has an output of shape {shape}")
    return shape[0]


def rows_of(way: Way, i: int, j: int) -> list[Row]:
    """What is bounded for L_ij."""
    rows: dict[Way, list[Row]] = {"pair": [(i, j)], "outputs": [(i,), (j,)], "network": [()]}
    return rows[way]


def with_row(network: Network, row: Row) -> Network:
    """f, f_i or f_i - f_j, exactly: the network with a dense layer behind it."""
    if not row:
        return network
    weight = np.zeros((1, n_outputs(network)))
    weight[0, list(row)] = [1.0, -1.0][: len(row)]
    layer = Dense(name_of(row), weight, np.zeros(1))
    return Network((*network.layers, layer), network.input_shape, (*network.sources, (len(network.layers),)))


def _expect_outputs(network: Network, pair: tuple[int, int]) -> None:
    n, (i, j) = n_outputs(network), pair
    if i == j or not (0 <= i < n and 0 <= j < n):
        raise ConfigError(f"there is no margin between outputs {i} and {j}; give two different ones of 0 to {n - 1}")


def name_of(row: Row) -> str:
    """What people, and files, call it."""
    return "-".join([_NAMES[len(row)], *map(str, row)])


class Constants:
    """Certified constants of a network's rows, each bounded once: those that are the same program, too.

    network, method, options, n_jobs: as of `margins`; seconds, last_seconds: wall time of all bounds so far, of the
    last ones.
    """

    def __init__(self, network: Network, method: str, options: Mapping[str, Any], n_jobs: int = 1) -> None:
        n_outputs(network)
        self.network, self.method = network, method
        self._bound = partial(_bound, method, options)
        self._first_alike = _first_alike(network)
        self._records: dict[Row, Record] = {}
        self.n_jobs, self.seconds, self.last_seconds = joblib.effective_n_jobs(n_jobs), 0.0, 0.0

    def find(self, rows: Iterable[Row], max_seconds: float | None = None) -> None:
        """Bound the rows that are not yet; max_seconds: of each."""
        begin = time.monotonic()
        left = [key for key in dict.fromkeys(map(self._key, rows)) if key not in self._records]
        networks = [with_row(self.network, key) for key in left]
        records = joblib.Parallel(self.n_jobs, prefer="threads")(
            joblib.delayed(self._bound)(network, max_seconds) for network in networks
        )
        self._records.update(zip(left, records, strict=True))
        self.last_seconds = time.monotonic() - begin
        self.seconds += self.last_seconds

    def have(self, i: int, j: int, ways: Sequence[Way]) -> bool:
        """Whether a way has a value; all of them were bounded."""
        return any(self._by(way, i, j) for way in ways)

    def margin(self, i: int, j: int, ways: Sequence[Way]) -> Margin:
        """The smallest of the ways, which were bounded; raises what `certlip.bound` says where none has a value."""
        found = [margin for way in ways if (margin := self._by(way, i, j))]
        if not found:
            failed = next(r for way in ways for r in self._of(rows_of(way, i, j)) if r.value is None)
            raise LimitExceeded(failed.status, f"{name_of((i, j))} has no constant: {failed.reason}")
        return min(found, key=lambda margin: margin.value)

    def table(self) -> Array:
        """`table_of` what was found; raises what `certlip.bound` says where the network has no value."""
        self.margin(0, 1, ["network"])
        return table_of(self.network, self._values())

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which pairs were bounded themselves, (n_outputs, n_outputs)."""
        return ~np.isnan(_own(self.network, self._values()))

    def certificates(self) -> dict[str, UpperCertificate]:
        """What proves the rows that were bounded, by their names."""
        return {name_of(row): record.certificate for row, record in self._records.items() if record.value is not None}

    def _values(self) -> dict[Row, float]:
        """Of the rows that were bounded, infinite where that gave none."""
        return {row: np.inf if r.value is None else r.value for row, r in self._records.items()}

    def _of(self, rows: Sequence[Row]) -> list[Record]:
        return [self._records[self._key(row)] for row in rows]

    def _by(self, way: Way, i: int, j: int) -> Margin | None:
        rows = rows_of(way, i, j)
        records = self._of(rows)
        values = [record.value for record in records if record.value is not None]
        if len(values) < len(records):
            return None
        constant = multiply_up([sqrt_up(2.0) if way == "network" else 1.0, add_up(values)])
        # a certificate of the row that was bounded proves the same of one that is the same program
        certificates = (
            replace(record.certificate, network=with_row(self.network, tuple(sorted(row))))
            for row, record in zip(rows, records, strict=True)
        )
        seconds = sum(record.seconds for record in records)
        reason = "; ".join(dict.fromkeys(record.reason for record in records if record.reason))
        return Margin(constant, way, tuple(certificates), seconds, reason)

    def _key(self, row: Row) -> Row:
        """Of the first row with the same program."""
        alike = tuple(sorted(self._first_alike.get(i, i) for i in row))
        return alike if len({*alike}) == len(row) else tuple(sorted(row))


def table_of(network: Network, values: Mapping[Row, float]) -> Array:
    """L_ij of all pairs, (n_outputs, n_outputs), from certified constants of rows, () among them: that of the pair
    where it has one, else sqrt(2) times that of the network."""
    least = multiply_up([sqrt_up(2.0), values[()]])
    own = _own(network, values)
    return np.where(np.isnan(own), least, np.fmin(own, least)) * (1.0 - np.eye(len(own)))


def _own(network: Network, values: Mapping[Row, float]) -> Array:
    """L_ij by way ``pair``: NaN where it was not bounded, infinite where that gave no value."""
    n, alike = n_outputs(network), _first_alike(network)
    found = np.full((n, n), np.nan)
    for row, value in values.items():
        if len(row) == 2:
            found[row] = found[row[::-1]] = value
    first = np.array([alike.get(i, i) for i in range(n)])
    return np.where(first[:, None] == first, found, found[np.ix_(first, first)])


def _first_alike(network: Network) -> dict[int, int]:
    """Output to the first with the very same weights in the last layer, where that is a dense one."""
    last = network.layers[-1] if network.layers else None
    if not isinstance(last, Dense):
        return {}
    first: dict[bytes, int] = {}
    return {i: first.setdefault(weights.tobytes(), i) for i, weights in enumerate(last.weight)}


def _bound(method: str, options: Mapping[str, Any], network: Network, max_seconds: float | None) -> Record:
    """Its record; raises ConfigError where that certifies nothing."""
    limits = [seconds for seconds in (options.get("max_seconds"), max_seconds) if seconds is not None]
    record = bound(network, method=method, **{**options, "max_seconds": min(limits, default=None)})
    if record.kind is not Kind.CERTIFIED:
        kind = f"a {record.kind} bound" if record.kind is Kind.LOWER else f"an {record.kind}"
        raise ConfigError(f"method {method!r} gives {kind}, which certifies no prediction; take a certified one")
    return record
