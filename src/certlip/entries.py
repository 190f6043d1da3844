"""The networks of entries of networks.yaml, as torch modules: what is known of them before a run exports them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from certlip.base.errors import DataError, NoData
from certlip.config import Network
from certlip.network import Shape
from certlip.untrained import build, shape_of
from certlip.workflow import BROKEN, refusal_of

if TYPE_CHECKING:
    from torch import nn

    from certlip.datasets import Images


def make_module(entry: Mapping[str, Any] | Network) -> nn.Module:
    """The torch module of an entry, with random weights of its seed or those of its file."""
    network = Network.model_validate(entry)
    return build(network) if network.file is None else _read(network)[0]


def load_module(entry: Mapping[str, Any], weights: str | Path) -> tuple[nn.Module, Shape]:
    """The torch module of an entry with the weights of a .pt file, as `plain_copy` gives it, and its input's shape.

    Raises NoBound for all that is wrong with this network only.
    """
    from certlip.pytorch.plain import plain_copy
    from certlip.pytorch.weights import load_into, load_weights

    network = Network.model_validate(entry)
    try:
        state = load_weights(weights)  # first what says why there is no module
        module, shape = _read(network) if network.file else (build(network), shape_of(network))
        load_into(module, state)
        return plain_copy(module, shape), shape
    except BROKEN as error:
        raise refusal_of(error).error() from error


def load_images(paths: Sequence[str], entry: Mapping[str, Any] | Network) -> Images | None:
    """Training images of a data set's file as inputs (n, *input_shape) of an entry; None if no file is given.

    Raises DataError if the images do not fit.
    """
    from certlip.datasets import Dataset

    if not paths:
        return None
    shape, images = _input_shape(entry), Dataset.load(paths[0]).train_images
    if images[0].size != math.prod(shape):
        raise DataError(f"{paths[0]}: images {images.shape[1:]} do not fit the network's input {shape}")
    standardise = Network.model_validate(entry).standardise
    if standardise is not None:
        images = standardise.applied(images).astype(np.float32)
    return images.reshape(-1, *shape)


def _input_shape(entry: Mapping[str, Any] | Network) -> Shape:
    network = Network.model_validate(entry)
    return shape_of(network) if network.file is None else _read(network)[1]


def _read(network: Network) -> tuple[nn.Module, Shape]:
    """The torch module of an entry's file, and the shape of its input; raises NoData for one that is not there."""
    from certlip import sources
    from certlip.pytorch.to_torch import to_torch

    if network.origin is not None and not Path(str(network.file)).exists():
        raise NoData(f"{network.file} is not there; put the file there by hand: it comes from {network.origin}")
    loaded = sources.load(str(network.file), input_shape=network.input_shape)
    if isinstance(loaded, sources.Model):
        return loaded.module, loaded.input_shape
    return to_torch(loaded), loaded.input_shape
