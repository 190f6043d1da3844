"""What the scripts of the workflow share: a log for each job, errors in one sentence, networks from their entries."""

from __future__ import annotations

import atexit
import math
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

from certlip.base import attempts
from certlip.base.errors import CertlipError, ConfigError, DamagedFile, DataError, ExportError, NoBound, Refusal
from certlip.base.limits import Limits
from certlip.base.timing import save_timing
from certlip.config import ConfigFile, Network, settings
from certlip.network import Shape

if TYPE_CHECKING:
    from torch import nn

    from certlip.datasets import Images


@contextmanager
def job(snakemake: Any) -> Iterator[None]:
    """Send the job's output to its log, and write beside it what the job took; a `CertlipError` ends the job with its
    sentence, any other error as it is.

    Nothing may follow in a script: whoever comes here has done the job, and the process ends at once.
    """
    name = ", ".join([snakemake.rule, *snakemake.wildcards])
    minutes = snakemake.resources.get("runtime")
    with open(snakemake.log[0], "w") as log:
        try:
            with redirect_stdout(log), redirect_stderr(log), attempts.noted(snakemake.log[0], minutes):
                yield
            save_timing(snakemake)
        except CertlipError as error:
            print(f"error: {sentence_of(error)}", file=log)
            print(f"certlip: {name}: {sentence_of(error)}", file=sys.stderr)
            sys.exit(1)
        except Exception:
            traceback.print_exc(file=log)
            raise
    atexit.register(_end_at_once)


def _end_at_once() -> None:
    """End the process, exit handlers run: to take modules apart costs 0.2 s of CPU time, with torch 0.6 s."""
    atexit.unregister(_end_at_once)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


BROKEN = (ConfigError, DataError, ExportError, NoBound)
"""What is wrong with one network only: its rows say so, and the run goes on."""


def refusal_of(error: CertlipError) -> Refusal:
    """One of `BROKEN` as the rows of its network say it."""
    if isinstance(error, NoBound):
        return error.refusal
    return Refusal("unsupported" if isinstance(error, ExportError) else "no_data", sentence_of(error))


def sentence_of(error: CertlipError) -> str:
    """What an error says in a run, in which a damaged file that the workflow made can be deleted to be made again."""
    if isinstance(error, DamagedFile) and error.path.parts[:1] == ("results",):
        return f"{error.reason}; delete it and run again"
    return str(error)


def settings_of(snakemake: Any) -> ConfigFile:
    """The configuration file of the run, for what changes no result: as a param it would run the rule again."""
    return settings(snakemake.config)


def limits_of(snakemake: Any) -> Limits:
    """What a method, or each semidefinite program, may take in this run."""
    return Limits(**settings_of(snakemake).limits.model_dump())


def build(entry: Mapping[str, Any] | Network) -> nn.Module:
    """The torch module of an entry of networks.yaml, with random weights of its seed or those of its file."""
    from certlip import zoo

    network = Network.model_validate(entry)
    if network.file is not None:
        return _read(network)[0]
    if network.function is not None:
        return zoo.from_factory(network.function, network.seed, **network.options)
    return zoo.make(str(network.architecture), network.seed, network.orthogonal, **network.options)


def load_module(entry: Mapping[str, Any], weights: str | Path) -> tuple[nn.Module, Shape]:
    """The torch module of an entry with the weights of a .pt file, as `plain_copy` gives it, and its input's shape.

    Raises NoBound for all that is wrong with this network only.
    """
    from certlip.pytorch.plain import plain_copy
    from certlip.pytorch.weights import load_into, load_weights

    network = Network.model_validate(entry)
    try:
        state = load_weights(weights)  # first what says why there is no module
        module, shape = _read(network) if network.file else (build(network), _input_shape(network))
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
    return images.reshape(-1, *shape)


def _input_shape(entry: Mapping[str, Any] | Network) -> Shape:
    """Shape of the network's input, without a batch axis."""
    from certlip import zoo

    network = Network.model_validate(entry)
    if network.file is not None:
        return _read(network)[1]
    if network.input_shape is not None:
        return network.input_shape
    return zoo.input_shape(str(network.architecture), **network.options)


def _read(network: Network) -> tuple[nn.Module, Shape]:
    """The torch module of an entry's file, and the shape of its input."""
    from certlip import sources
    from certlip.pytorch.to_torch import to_torch

    loaded = sources.load(str(network.file), input_shape=network.input_shape)
    if isinstance(loaded, sources.Model):
        return loaded.module, loaded.input_shape
    return to_torch(loaded), loaded.input_shape
