"""Bound and time against the number of channels: the first experiment of Sulehman & Mu 2024 (arXiv 2403.18613)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certlip.figures import FigureInfo, _sweep

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

INFO = FigureInfo(
    title="Width sweep",
    caption="Value (above) and wall time, calibration included (below), of each method on convolutional blocks of "
    "growing width, with random weights and trained with a dense layer after the block. A line is broken where the "
    "method gave no value.",
)


def draw(bounds: pd.DataFrame) -> Figure:
    """Over the number of channels."""
    return _sweep.draw(bounds, "width_sweep", "channels")
