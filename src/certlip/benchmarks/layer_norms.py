"""Spectral norms of convolution layers by every rival of `certlip.layer_norms`, on layers of well-known networks."""

from __future__ import annotations

from typing import Literal

import pandas as pd

from certlip import layer_norms
from certlip.layer_norms import _measure, _shapes

Shapes = Literal["randn", "resnet18", "vgg16"]


def run(*, shapes: list[Shapes] = ["randn", "resnet18", "vgg16"], seed: int = 0) -> pd.DataFrame:  # noqa: B006
    """A row a layer and rival: layer, method, title, kind, value, exact, ratio, seconds, published."""
    chosen = {name: shape for group in shapes for name, shape in _shapes.GROUPS[group].items()}
    return _measure.measure(chosen, layer_norms.names(), seed)
