"""Predictions certified within radii, by every method, between the images that are right and those that are broken."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from certlip.base.record import Status
from certlip.tables import TableInfo, _cells

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Certified accuracy",
    caption="Share of test images, in percent, that are right (clean), that are proved to stay right within an l2 "
    "radius in pixels (certified), and that no attack changes within it (attacked): the truth lies between the last "
    "two. Pairs: of classes with a constant of their own. Around images: margins with a constant around their image. "
    "Seconds: for all constants of a network. Rows with a source are what a publication prints of the same weights and "
    "images.",
    source="certified_accuracy",
)
_COLUMNS = [
    *("Network", "Method", "Radius", "Certified", "Clean", "Attacked", "Pairs", "Around images", "Seconds", "Status"),
    *("Reason", "Reported by"),
]


def make(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a network, radius and method, with the figures of others below each network's."""
    asked = rows[rows["asked"].astype(bool)]
    order = {network: place for place, network in enumerate(rows["network"].unique())}
    asked = asked.assign(place=asked["network"].map(order)).sort_values(["place", "radius"], kind="stable")
    return _cells.frame([_row(row) for row in asked.itertuples(index=False)], columns=_COLUMNS)


def _row(row: Any) -> list[str]:
    counts = ["" if _cells.is_missing(n) else f"{n:.0f}" for n in (row.n_bounded, row.n_local)]
    if row.status == Status.OK and row.n_left_open > 0:
        counts[0] += f" ({row.n_left_open:.0f} left out)"
    return [
        row.network,
        row.method,
        _cells.NONE if _cells.is_missing(row.radius) else f"{row.radius:.4g}",
        percent(row.certified, math.floor),
        percent(row.clean, math.floor),
        percent(row.attacked, math.ceil),
        *counts,
        _cells.NONE if _cells.is_missing(row.seconds) else _cells.seconds(row.seconds),
        row.status,
        _text(row.reason),
        _text(row.reported_by),
    ]


def percent(share: float, towards: Any) -> str:
    """A share in percent with a digit behind the point, rounded to its safe side."""
    # a share of some images is a quotient of whole numbers: what is nearer than this is only its rounding
    return _cells.NONE if _cells.is_missing(share) else f"{towards(round(1000 * share, 6)) / 10:.1f}"


def _text(value: Any) -> str:
    return "" if _cells.is_missing(value) else str(value)
