"""Networks that others published: each bound that they print beside ours of the very same weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from certlip.base.record import Kind, Status
from certlip.tables import TableInfo, _cells

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Published networks",
    caption="Each value that a publication prints of a network, and ours of the same weights: beside an upper bound "
    "the smallest certified one of this run, beside a lower bound the largest lower one, with the method that gave it "
    "and its seconds. A published value is what a solver printed, without an uncertainty; one below our lower bound, "
    "which is attained at a stored point, is no bound of this network. Product / ours: what our bound gains over the "
    "product of layer norms.",
)
EXPERIMENT = "peers"


@dataclass(frozen=True)
class Comparison:
    """One published value beside ours of its network.

    theirs, their_seconds: published, NaN where nothing is; ours: the row of our value, None without one; naive: the
    product of layer norms, lower: our largest lower bound, NaN without one; status: why there is no value of ours.
    """

    network: str
    method: str
    is_lower: bool
    theirs: float
    their_seconds: float
    source: str
    note: str
    ours: Any
    naive: float
    lower: float
    status: str

    @property
    def ratio(self) -> float:
        """Ours over theirs."""
        return float("nan") if self.ours is None else float(self.ours.value / self.theirs)

    @property
    def is_refuted(self) -> bool:
        """Whether a point attains more than the published upper bound."""
        return not self.is_lower and self.theirs < self.lower

    @property
    def remark(self) -> str:
        """What has to be said of the comparison, empty where ours is at least as good."""
        if self.is_refuted:
            return f"theirs is below our lower bound {_cells.marked(self.lower, Kind.LOWER)}: no bound of this network"
        if not self.is_lower and self.ratio > 1:
            within = not _cells.is_missing(self.ours.gap) and self.ratio <= 1 + self.ours.gap
            excess = f"ours is {_times(self.ratio)} theirs{', within our gap' if within else ''}"
            return f"{excess}; {self.note}" if self.note else excess
        if self.is_lower and self.ratio < 1:
            return f"ours is {_times(self.ratio)} theirs"
        return ""


def _times(ratio: float) -> str:
    """How much more or less, as read before what is compared with."""
    if ratio > 2:
        return f"{ratio:.3g} times"
    return f"{100 * abs(ratio - 1):.2g}% {'above' if ratio > 1 else 'below'}"


def make(bounds: pd.DataFrame) -> pd.DataFrame:
    """A row a published value, in the order of the networks, and one for each network of which none is."""
    return _cells.frame([_row(comparison) for comparison in comparisons(bounds)], columns=_COLUMNS)


_COLUMNS = [
    "Network",
    "Published",
    "Theirs",
    "Their s",
    "Ours",
    "Method",
    "Seconds",
    "Ours / theirs",
    "Product / ours",
    "Remark",
    "Source",
]


def comparisons(bounds: pd.DataFrame) -> list[Comparison]:
    """All of the experiment."""
    rows = bounds[bounds["experiment"] == EXPERIMENT]
    return [found for _, network in rows.groupby("network", sort=False) for found in _of_network(network)]


def _of_network(rows: pd.DataFrame) -> list[Comparison]:
    first = rows.iloc[0]
    published = json.loads(first["published"]) if first["published"] else {}
    solved = rows[rows["status"] == Status.OK]
    best = _first(solved[solved["kind"] == Kind.CERTIFIED].sort_values("value", kind="stable"))
    lowest = _first(solved[solved["kind"] == Kind.LOWER].sort_values("value", ascending=False, kind="stable"))
    naive = _first(solved[solved["method"] == "product"])
    values = [(method, value, False) for method, value in published.get("bounds", {}).items()]
    values += [(method, value, True) for method, value in published.get("lower", {}).items()]
    return [
        Comparison(
            network=first["network"],
            method=method,
            is_lower=is_lower,
            theirs=theirs,
            their_seconds=published.get("seconds", {}).get(method, float("nan")),
            source=", ".join(filter(None, (published.get("source"), published.get("solver")))),
            note=published.get("note", ""),
            ours=lowest if is_lower else best,
            naive=float("nan") if naive is None else naive.value,
            lower=float("nan") if lowest is None else lowest.value,
            status=str(first["status"]),
        )
        for method, theirs, is_lower in values or [("", float("nan"), False)]
    ]


def _first(rows: pd.DataFrame) -> Any:
    return next(rows.itertuples(index=False), None)


def _row(comparison: Comparison) -> list[str]:
    ours = comparison.ours
    return [
        comparison.network,
        comparison.method or _cells.NONE,
        _cells.number(comparison.theirs),
        _cells.NONE if _cells.is_missing(comparison.their_seconds) else _cells.seconds(comparison.their_seconds),
        comparison.status if ours is None else _cells.bound(ours),
        _cells.NONE if ours is None else ours.method,
        _cells.NONE if ours is None else _cells.seconds(ours.seconds + ours.calibration_seconds),
        _cells.number(comparison.ratio),
        _cells.NONE if ours is None or comparison.is_lower else _cells.number(comparison.naive / ours.value, digits=3),
        comparison.remark,
        comparison.source or _cells.NONE,
    ]
