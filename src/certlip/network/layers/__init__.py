"""The kinds of layers, each with the shape and the value that it gives."""

from certlip.network.layers.activation import ACTIVATIONS, Activation, Elementwise
from certlip.network.layers.base import MOST_ENTRIES, Array, Pair, Shape, expect, to_integers
from certlip.network.layers.linear import Along, Conv, Dense
from certlip.network.layers.moving import Concat, Flatten, Gather, Maximum, MaxPool, Reshape, Sort, Sum
from certlip.network.layers.softmax import Softmax

Join = Sum | Concat | Maximum
JOINS = (Sum, Concat, Maximum)
"""Layers that take several values."""

Linear = Conv | Dense | Along
LINEAR = (Conv, Dense, Along)
"""Layers with a weight and a bias."""

Moved = Flatten | Reshape
MOVED = (Flatten, Reshape)
"""Layers that leave the flattened value as it is."""

Coupled = MaxPool | Sort | Softmax
COUPLED = (MaxPool, Sort, Softmax)
"""Layers that are neither linear nor elementwise."""

Layer = Linear | Gather | Activation | Coupled | Moved | Join
"""Any of them."""

__all__ = [
    "ACTIVATIONS",
    "COUPLED",
    "JOINS",
    "LINEAR",
    "MOST_ENTRIES",
    "MOVED",
    "Activation",
    "Along",
    "Array",
    "Concat",
    "Conv",
    "Coupled",
    "Dense",
    "Elementwise",
    "Flatten",
    "Gather",
    "Join",
    "Layer",
    "Linear",
    "MaxPool",
    "Maximum",
    "Moved",
    "Pair",
    "Reshape",
    "Shape",
    "Softmax",
    "Sort",
    "Sum",
    "expect",
    "to_integers",
]
