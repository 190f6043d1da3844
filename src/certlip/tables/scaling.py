"""How far each method goes: seconds, memory and bound as images, channels or layers become more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from certlip.base.record import Status
from certlip.tables import TableInfo, _cells

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Scaling",
    caption="Bound, wall time in seconds, calibration included, and peak memory of each method on padded 3x3 "
    "convolutions with random weights as one size grows and the others stay. Where a method gives no value its status "
    "stands there, and beside it why; where a limit cut it short the value is what it had by then.",
)
SWEEPS = {"scaling_side": "side", "scaling_channels": "channels", "scaling_depth": "layers"}
"""Experiment -> what grows in it, `x` of its networks."""


def make(bounds: pd.DataFrame) -> pd.DataFrame:
    """Columns Size and Network, one a method, and Reasons; rows by sweep and size."""
    rows = bounds[bounds["experiment"].isin(SWEEPS)]
    methods = rows["method"].unique().tolist()
    cells = []
    for experiment, axis in SWEEPS.items():
        sweep = rows[rows["experiment"] == experiment].sort_values("x", kind="stable")
        for network, part in sweep.groupby("network", sort=False):
            found: dict[str, Any] = {str(row.method): row for row in part.itertuples(index=False)}
            values = [_cell(found[method]) if method in found else _cells.NONE for method in methods]
            reasons = "; ".join(f"{method}: {row.reason}" for method, row in found.items() if row.reason)
            first = next(iter(found.values()))
            cells.append([f"{first.x:g} {axis}", str(network), *values, reasons or _cells.NONE])
    return _cells.frame(cells, columns=["Size", "Network", *methods, "Reasons"])


def _cell(row: Any) -> str:
    text = _cells.bound(row)
    if row.status != Status.OK:
        return text
    memory = "" if _cells.is_missing(row.peak_mb) or not row.peak_mb else f", {row.peak_mb:.0f} MB"
    return f"{text} ({_cells.seconds(row.seconds + row.calibration_seconds)} s{memory})"
