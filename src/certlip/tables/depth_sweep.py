"""Bound and time against the number of layers: the second experiment of Sulehman & Mu 2024 (arXiv 2403.18613)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certlip.tables import TableInfo, _sweep

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Depth sweep",
    caption="l2 Lipschitz bounds of convolutional blocks that differ in their number of layers, with random "
    "weights and trained with a dense layer after the block, and the wall time in seconds, calibration included.",
)


def make(bounds: pd.DataFrame) -> pd.DataFrame:
    """Columns Layers and Network, then one a method; rows by layers."""
    return _sweep.make(bounds, "depth_sweep", "Layers")
