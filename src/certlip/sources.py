"""Networks where people keep them: ONNX files, exported networks, programs of torch.export, weights and factories."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from certlip.base.errors import ConfigError, DamagedFile
from certlip.network import Network, Shape

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, eq=False)
class Model:
    """A torch module and the shape of its input, without a batch axis."""

    module: nn.Module
    input_shape: Shape


def load(
    source: str | Path,
    *,
    model: str | None = None,
    input_shape: Sequence[int] | None = None,
    weights: str | Path | None = None,
    key: str | None = None,
) -> Network | Model:
    """A network from a file or a function, as `certlip.bound` takes it.

    source: an ONNX file (``net.onnx``), a network that certlip exported (``net.npz``), a program that torch.export
    saved (``net.pt2``), a file of weights with its `model`, or a function ``package.module:function`` that returns a
    torch module, with or without `weights`;
    model: the function that returns the module that the weights in `source` belong to; input_shape: without a batch
    axis, needed for a function's module and where a file leaves it open; key: of the entry that holds the weights,
    through mappings and lists ``state_dict.0``.

    No file is unpickled, whatever it is called. A function is code: naming it runs it.
    Raises ConfigError where the source is none of these or what it needs is missing, and what its reader raises.

    Example: ``certlip.bound(certlip.load("net.onnx"), method="lipsdp")``.
    """
    shape = None if input_shape is None else checked_shape(input_shape)
    if (reader := READERS.get(Path(source).suffix.lower())) is not None:
        if not (model is None and weights is None and key is None):
            raise ConfigError(f"{source} brings its own weights: leave out model, weights and key")
        return reader(source, shape)
    if model is not None:
        if weights is not None:
            raise ConfigError(f"{source} or {weights}: give one file of weights")
        return _from_factory(model, shape, source, key)
    if re.fullmatch(r"[\w.]+:\w+", str(source)):
        return _from_factory(str(source), shape, weights, key)
    if Path(source).suffix.lower() in WEIGHTS:
        raise ConfigError(
            f"{source} holds weights and no network: say what they are weights of, model (--model "
            "package.module:function) and input_shape (--input-shape 3,224,224)"
        )
    raise _not_a_network(source)


def checked_shape(shape: Sequence[int]) -> Shape:
    """Raises ConfigError for anything but positive whole numbers."""
    try:
        numbers = tuple(map(operator.index, shape))
    except TypeError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise ConfigError(f"input_shape {shape!r} is not a shape: give positive integers, without the batch axis")
    return numbers


def network_of(loaded: Network | Model) -> Network:
    """What `load` gave as a `Network`; raises what `export_network` does."""
    if isinstance(loaded, Network):
        return loaded
    from certlip.pytorch.export import export_network

    return export_network(loaded.module, loaded.input_shape)


def _onnx(source: str | Path, shape: Shape | None) -> Model:
    from certlip.onnx import read_onnx

    return Model(*read_onnx(source, shape))


def _exported(source: str | Path, shape: Shape | None) -> Network:
    try:
        network = Network.load(source)
    except DamagedFile as error:
        raise _not_a_network(source) from error
    if shape not in (None, network.input_shape):
        raise ConfigError(f"{source} takes inputs of shape {network.input_shape}, not {shape}; leave input_shape out")
    return network


def _program(source: str | Path, shape: Shape | None) -> Model:
    from certlip.pytorch.programs import read_program

    return Model(*read_program(source, shape))


def _from_factory(factory: str, shape: Shape | None, weights: str | Path | None, key: str | None) -> Model:
    from certlip import zoo
    from certlip.pytorch.weights import load_into, load_weights

    if shape is None:
        raise ConfigError(f"{factory} does not say what it takes: give input_shape (--input-shape 3,224,224)")
    module = zoo.from_factory(factory)
    if weights is not None:
        load_into(module, load_weights(weights, key))
    elif key is not None:
        raise ConfigError(f"key {key!r} is an entry of a file of weights: give weights (--weights), or leave it out")
    return Model(module, shape)


def _not_a_network(source: str | Path) -> ConfigError:
    return ConfigError(
        f"{source} is not a network certlip reads: give an ONNX file (net.onnx), a file that certlip or torch.export "
        "wrote (net.npz, net.pt2), weights with their model (net.pth --model package.module:function --input-shape "
        "3,224,224), or a function that makes the network (package.module:function --input-shape 3,224,224)"
    )


READERS: dict[str, Callable[[str | Path, Shape | None], Network | Model]] = {
    ".onnx": _onnx,
    ".npz": _exported,
    ".pt2": _program,
}
"""By the end of a file's name."""

WEIGHTS = (".pt", ".pth", ".ckpt", ".bin", ".safetensors", ".tar")
