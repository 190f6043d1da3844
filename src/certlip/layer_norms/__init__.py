"""Norms of single convolution layers by rival methods, one file each, measured side by side.

A rival defines `INFO` and ``norm(layer, shape) -> float``, the value it gives for the spectral norm of a convolution on
inputs of `shape`, (channels, rows, columns). `certlip.layer_norms._measure` times them all on the shapes of `_shapes`.
"""

from __future__ import annotations

from dataclasses import dataclass

from certlip.base import plugins
from certlip.base.record import Kind


@dataclass(frozen=True)
class LayerNormInfo:
    """What a rival says of itself: title as printed, kind of its values, authors, year and identifier."""

    title: str
    kind: Kind
    reference: str


def names() -> list[str]:
    """Names of the rivals."""
    return plugins.names(__name__)
