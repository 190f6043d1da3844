"""Torch modules of entries of networks.yaml that name an architecture or a function, which no file is read for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from certlip import zoo
from certlip.config import Network
from certlip.network import Shape

if TYPE_CHECKING:
    from torch import nn


def build(entry: Mapping[str, Any] | Network) -> nn.Module:
    """The torch module of an entry, with random weights of its seed."""
    network = Network.model_validate(entry)
    if network.function is not None:
        return zoo.from_factory(network.function, network.seed, **network.options)
    return zoo.make(str(network.architecture), network.seed, network.orthogonal, **network.options)


def shape_of(network: Network) -> Shape:
    """Shape of the network's input, without a batch axis."""
    if network.input_shape is not None:
        return network.input_shape
    return zoo.input_shape(str(network.architecture), **network.options)
