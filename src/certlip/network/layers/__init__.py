"""The kinds of layers, each with the shape and the value that it gives."""

from certlip.network.layers.activation import ACTIVATIONS, Activation, Elementwise
from certlip.network.layers.base import MOST_ENTRIES, Array, Pair, Shape, expect, to_integers
from certlip.network.layers.linear import Along, Conv, Dense
from certlip.network.layers.moving import Concat, Flatten, Gather, MaxPool, Reshape, Sum

Join = Sum | Concat
JOINS = (Sum, Concat)
"""Layers that take several values."""

Linear = Conv | Dense | Along
LINEAR = (Conv, Dense, Along)
"""Layers with a weight and a bias."""

Moved = Flatten | Reshape
MOVED = (Flatten, Reshape)
"""Layers that leave the flattened value as it is."""

Layer = Linear | Gather | Activation | MaxPool | Moved | Join
"""Any of them."""

__all__ = [
    "ACTIVATIONS",
    "JOINS",
    "LINEAR",
    "MOST_ENTRIES",
    "MOVED",
    "Activation",
    "Along",
    "Array",
    "Concat",
    "Conv",
    "Dense",
    "Elementwise",
    "Flatten",
    "Gather",
    "Join",
    "Layer",
    "Linear",
    "MaxPool",
    "Moved",
    "Pair",
    "Reshape",
    "Shape",
    "Sum",
    "expect",
    "to_integers",
]
