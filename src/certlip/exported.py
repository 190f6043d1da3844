"""What the weights of a network export to, written to its file, or compared with what lies there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from certlip.base.errors import DataError, NoBound, Refusal
from certlip.base.files import write_refusal
from certlip.entries import load_module
from certlip.network import Network, Shape
from certlip.pytorch.export import export_network
from certlip.pytorch.to_torch import to_torch
from certlip.untrained import build
from certlip.workflow import BROKEN, refusal_of


def save_exported(path: str | Path, entry: Mapping[str, Any], weights: str | Path) -> None:
    """Write what the weights of an entry export to; where there are none, or a layer has no bound, why."""
    try:
        network = _export(entry, *load_module(entry, weights))
    except BROKEN as error:
        write_refusal(path, refusal_of(error))
    else:
        network.save(path)


def exported_sha256(folder: Path, name: str, entry: Mapping[str, Any]) -> str | None:
    """Of what the weights of a network export to, which its rows must be about; None where they export to nothing.

    Raises DataError where the network's file in the folder is something else.
    """
    weights, file = folder / f"{name}.pt", folder / f"{name}.npz"
    if not weights.exists():
        raise DataError(f"{weights} is missing, and without it nothing shows what {file} was exported from; add it")
    exported: Network | Refusal
    module = None
    try:
        module, shape = load_module(entry, weights)
        exported = _export(entry, module, shape)
    except BROKEN as error:
        exported = refusal_of(error)
    if module is not None and entry.get("architecture") and not (entry.get("train") or entry.get("weights")):
        _expect_weights_of_seed(module, entry, weights)
    try:
        found: Network | Refusal = Network.load(file)
    except NoBound as error:
        found = error.refusal
    if _identity(found) != _identity(exported):
        why = f" ({exported.reason})" if isinstance(exported, Refusal) else ""
        raise DataError(f"{file} is not what {weights} exports to{why}; export and bound it again")
    return exported.sha256 if isinstance(exported, Network) else None


def _export(entry: Mapping[str, Any], module: nn.Module, shape: Shape) -> Network:
    """What a module exports to; a network that is given as one stays as it is, if the module's weights are its own."""
    if not entry.get("npz"):
        return export_network(module, shape)
    network = Network.load(entry["npz"])
    own = to_torch(network).state_dict()
    for key, value in module.state_dict().items():
        if not torch.equal(value, own[key]):
            raise DataError(f"the weights {key!r} are not those of {entry['npz']}; make them again")
    return network


def _expect_weights_of_seed(module: nn.Module, entry: Mapping[str, Any], path: Path) -> None:
    """Raises DataError for other random weights than the entry's; those of another machine may be rounded otherwise."""
    drawn = build(entry).double().state_dict()
    for key, value in module.state_dict().items():
        if not torch.allclose(value, drawn[key], rtol=1e-3, atol=1e-3 * float(drawn[key].abs().max())):
            raise DataError(f"{path} does not hold the weights of the network's seed: its {key} differs")


def _identity(exported: Network | Refusal) -> str | Refusal | None:
    """Equal for what is the same network, or refused for the same reason."""
    return exported.sha256 if isinstance(exported, Network) else Refusal.from_header(exported.to_header())
