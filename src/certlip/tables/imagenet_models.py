"""Models that people use: what each method says of them, and what it wins over the product of layer norms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from certlip.base.record import Kind, Status
from certlip.tables import TableInfo, _cells

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Models of ImageNet and CIFAR-10",
    caption="Torchvision's models at 224 x 224 with random weights, and networks trained on CIFAR-10 with batch "
    "normalisation, with their accuracy on its test images: value of each method, what it wins over the product of "
    "layer norms, wall time in seconds, calibration included, and peak memory. What is refused is a row with a reason.",
)
EXPERIMENT = "imagenet_models"


def make(bounds: pd.DataFrame) -> pd.DataFrame:
    """A row a (network, method) of the experiment: `_COLUMNS`."""
    return _cells.frame([_row(row) for row in won(bounds).itertuples(index=False)], columns=_COLUMNS)


_COLUMNS = ["Network", "Accuracy", "Method", "Value", "Product / value", "Seconds", "Peak MB", "Reason"]


def won(bounds: pd.DataFrame) -> pd.DataFrame:
    """The rows of the experiment with the column factor: product / value, missing where either is."""
    rows = bounds[bounds["experiment"] == EXPERIMENT]
    product = rows[rows["method"] == "product"].set_index("network")["value"]
    return rows.assign(factor=rows["network"].map(product).astype("float64") / rows["value"].where(rows["value"] > 0))


def _row(row: Any) -> list[str]:
    compared = row.kind == Kind.CERTIFIED and row.method != "product"
    return [
        row.network,
        _cells.NONE if _cells.is_missing(row.test_accuracy) else f"{100 * row.test_accuracy:.1f}%",
        row.method,
        _cells.bound(row),
        _cells.number(row.factor, digits=3) if compared else _cells.NONE,
        _cells.seconds(row.seconds + row.calibration_seconds) if row.status == Status.OK else _cells.NONE,
        _cells.NONE if _cells.is_missing(row.peak_mb) else f"{row.peak_mb:.0f}",
        row.reason or _cells.NONE,
    ]
