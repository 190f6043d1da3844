"""Weights files: written by certlip or fetched by checksum, read without running the code that a pickle may hold."""

from __future__ import annotations

import hashlib
import io
import re
import urllib.request
import zipfile
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import nn

from certlip.base.errors import ConfigError, DamagedFile, DataError, NoData, Refusal
from certlip.base.files import write_atomically
from certlip.pytorch.safetensors import read_safetensors

StateDict = dict[str, torch.Tensor]

_SECONDS_WITHOUT_AN_ANSWER = 60


def save_weights(path: str | Path, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Write weights to one file; raises DataError if the disk is full or the folder may not be written to."""
    buffer = io.BytesIO()  # torch.save hides what went wrong with a file
    torch.save({"state_dict": dict(state_dict)}, buffer)
    with write_atomically(path) as handle:
        handle.write(buffer.getbuffer())


def save_refusal(path: str | Path, refusal: Refusal) -> None:
    """Write, in place of weights, why there are none; `load_weights` raises it."""
    with write_atomically(path) as handle:
        torch.save(refusal.to_header(), handle)


def load_weights(path: str | Path, key: str | None = None) -> StateDict:
    """The state_dict in a file, on the CPU.

    key: the entry that holds it, through mappings and lists ``models.0``; by default ``state_dict`` if there is such an
    entry, else the file is the state_dict.
    Raises DataError if the file is missing, damaged, holds more than tensors and plain values, or has no such entry;
    what it says if `save_refusal` wrote it.
    """
    content = _read(path)
    if refusal := Refusal.from_header(content):
        raise refusal.error()
    weights = content.get("state_dict", content) if key is None else _entry(content, key, str(path))
    if not isinstance(weights, Mapping) or not all(isinstance(v, torch.Tensor) for v in weights.values()):
        raise DataError(
            f"{path} is not a state_dict of tensors; name the entry that is one, or save module.state_dict()"
        )
    return dict(weights)


def _entry(content: Any, key: str, where: str) -> Any:
    """What stands under a dotted key; a key that itself has dots is found too."""
    entries = dict(enumerate(content)) if isinstance(content, list | tuple) else content
    known = {str(name): value for name, value in entries.items()} if isinstance(entries, Mapping) else {}
    if key in known:
        return known[key]
    first, _, rest = key.partition(".")
    if not rest or first not in known:
        raise DataError(f"{where} has no entry {key!r}; it has {', '.join(map(repr, list(known)[:5])) or 'none'}")
    return _entry(known[first], rest, f"{where}, {first!r},")


def fetch_weights(url: str, sha256: str, path: str | Path) -> None:
    """Leave the file with this sha256 at `path`: it lies there, or is fetched from an https:// or file:// address.

    Raises ConfigError for another kind of address or a malformed sha256, NoData if the file cannot be had, DataError
    if it is another.
    """
    if not url.startswith(("https://", "file://")):
        raise ConfigError(f"weights are fetched from https:// or file:// addresses only, not from {url!r}")
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise ConfigError(f"the sha256 of {url} must be 64 hexadecimal digits, not {sha256!r}")
    if Path(path).exists():
        if (found := hashlib.sha256(Path(path).read_bytes()).hexdigest()) != sha256.lower():
            raise DataError(
                f"{path} has sha256 {found}, not the expected {sha256}; give the one that the checksum is of"
            )
        return
    digest = hashlib.sha256()
    with write_atomically(path) as handle:
        try:
            with urllib.request.urlopen(url, timeout=_SECONDS_WITHOUT_AN_ANSWER) as response:
                while chunk := response.read(1 << 20):
                    digest.update(chunk)
                    handle.write(chunk)
        except ValueError as error:
            raise ConfigError(f"weights could not be fetched from {url} ({error}); check the address") from error
        except (OSError, HTTPException) as error:
            sentence = f"weights could not be fetched from {url} ({error}); put the file into {path} by hand"
            raise NoData(sentence, [str(path)], [url]) from error
        if digest.hexdigest() != sha256.lower():
            raise DataError(
                f"{url} has sha256 {digest.hexdigest()}, not the expected {sha256}; nothing was kept: check the "
                "address and the checksum"
            )


def load_into(module: nn.Module, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Give `module` these weights; raises DataError unless names and shapes are its own and all values finite."""
    own = module.state_dict()
    complaints = [f"it lacks {key!r}" for key in own if key not in state_dict]
    complaints += [f"{key!r} is not the network's" for key in state_dict if key not in own]
    complaints += [
        f"{key!r} is {tuple(value.shape)} instead of {tuple(own[key].shape)}"
        for key, value in state_dict.items()
        if key in own and value.shape != own[key].shape
    ]
    complaints += [f"{key!r} is complex" for key, value in state_dict.items() if value.is_complex()]
    if complaints:
        more = f" and {len(complaints) - 3} more" if len(complaints) > 3 else ""
        raise DataError(
            f"the weights do not fit {type(module).__name__}: {', '.join(complaints[:3])}{more}; use the architecture "
            "and options that they were trained with"
        )
    for key, value in state_dict.items():
        if not torch.isfinite(value).all():
            raise DataError(f"the weights {key!r} hold NaN or infinite values; train or fetch them again")
    module.load_state_dict(dict(state_dict))


def in_order(module: nn.Module, state_dict: Mapping[str, torch.Tensor]) -> StateDict:
    """The tensors under the names of the module's, one after the other; those that are too many keep their own."""
    own = list(module.state_dict())
    return dict(zip([*own, *list(state_dict)[len(own) :]], state_dict.values(), strict=False))


def _read(path: str | Path) -> Mapping[str, Any]:
    if Path(path).suffix == ".safetensors":
        return read_safetensors(path)
    _check_members(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise DataError(f"weights file {path} does not exist; check the path, or fetch or train the weights") from error
    except Exception as error:  # a damaged file can raise almost anything from zipfile, pickle and torch
        raise DataError(
            f"{path} is damaged or holds more than tensors and plain values, and code in a weights file is never run; "
            "save module.state_dict() with torch.save"
        ) from error
    if not isinstance(content, Mapping):
        raise DataError(f"{path} holds a {type(content).__name__}, not a state_dict; save module.state_dict()")
    return content


def _check_members(path: str | Path) -> None:
    """Raises DataError for an archive whose members are not those that were written: torch looks at no checksum."""
    try:
        if not zipfile.is_zipfile(path):
            return  # missing, or of a kind without checksums
        with zipfile.ZipFile(path) as archive:
            # torch reads nothing of what is marked as a folder, and gives whatever lay in memory
            damaged = archive.testzip() is not None or any(m.external_attr & _FOLDER for m in archive.infolist())
    except Exception:  # as below
        damaged = True
    if damaged:
        raise DamagedFile(f"{path} is damaged: it does not match its own checksums", path)


_FOLDER = 0x10
