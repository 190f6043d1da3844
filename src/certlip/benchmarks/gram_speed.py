"""Certified Gram iteration of `certlip.proof.gram_iteration` against the paper's formula as it stands, in
complex128."""

from __future__ import annotations

from typing import TYPE_CHECKING

from certlip.benchmarks.layer_norms import Shapes
from certlip.layer_norms import _measure, _shapes

if TYPE_CHECKING:
    import pandas as pd


def run(*, shapes: list[Shapes] = ["randn", "resnet18"], seed: int = 0) -> pd.DataFrame:  # noqa: B006
    """A row a layer: layer, seconds, naive_seconds, speedup, value, naive_value."""
    chosen = {name: shape for group in shapes for name, shape in _shapes.GROUPS[group].items()}
    return _measure.gram_speed(chosen, seed)
