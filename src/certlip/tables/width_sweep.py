"""Bound and time against the number of channels: the first experiment of Sulehman & Mu 2024 (arXiv 2403.18613)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certlip.tables import TableInfo, _sweep

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Width sweep",
    caption="l2 Lipschitz bounds of convolutional blocks that differ in their number of channels, with random "
    "weights and trained with a dense layer after the block, and the wall time in seconds, calibration included.",
)


def make(bounds: pd.DataFrame) -> pd.DataFrame:
    """Columns Channels and Network, then one a method; rows by channels."""
    return _sweep.make(bounds, "width_sweep", "Channels")
