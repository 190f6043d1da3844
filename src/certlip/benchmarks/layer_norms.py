"""Spectral norms of convolution layers by every rival of `certlip.layer_norms`.

The layers have the shapes of well-known networks and random weights, or are those of networks of the configuration,
where training has shaped the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from certlip.base.errors import NoBound
from certlip.layer_norms import _measure, _shapes
from certlip.network import Conv, Network, Shape

if TYPE_CHECKING:
    import pandas as pd

Shapes = Literal["randn", "resnet18", "vgg16"]


def run(
    *,
    shapes: list[Shapes] = ["randn", "resnet18", "vgg16"],  # noqa: B006
    networks: list[str] = [],  # noqa: B006
    seed: int = 0,
) -> pd.DataFrame:
    """A row a layer and rival: layer, method, title, kind, value, norm, ratio, seconds, published."""
    chosen = {name: shape for group in shapes for name, shape in _shapes.GROUPS[group].items()}
    layers = {name: (shape.layer(name, seed), shape.input_shape) for name, shape in chosen.items()}
    for file in networks:
        layers |= _convolutions(file)
    published = {name: shape.published for name, shape in chosen.items()}
    return _measure.measure(layers, published)


def _convolutions(file: str) -> dict[str, tuple[Conv, Shape]]:
    """By name; none of a network that has no data or no bound, as the log then says."""
    try:
        network = Network.load(file)
    except NoBound as refusal:
        print(f"{Path(file).stem} is left out: {refusal}")
        return {}
    found = [(layer, shape) for layer, shape in network.with_shapes if isinstance(layer, Conv) and layer.weight.any()]
    return {f"{Path(file).stem} conv{i}": pair for i, pair in enumerate(found, start=1)}
