"""What each method wins over the product of layer norms on models that people use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certlip.base.record import Kind
from certlip.figures import FigureInfo, style, tightness

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

INFO = FigureInfo(
    title="Models of ImageNet and CIFAR-10",
    caption="The product of layer norms divided by each other certified bound, on a logarithmic axis: to the right is "
    "better. A method without a value on a network has no marker there; the table says why.",
)


def draw(bounds: pd.DataFrame) -> Figure:
    """A row a network, a marker a method."""
    from certlip.tables.imagenet_models import won

    rows = won(bounds)
    rows = rows[(rows["kind"] == Kind.CERTIFIED) & (rows["method"] != "product")]
    if not (rows["factor"] > 0).any():
        return style.message("No network of this configuration is a model of this table, or none has a bound.")
    return tightness.dots(bounds, rows, "factor", "product / value", "no further bound")
