"""Weights in the format of safetensors: a header in JSON, then plain numbers; nothing in it can be run."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from certlip.base.errors import DataError

_KINDS = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def read_safetensors(path: str | Path) -> dict[str, torch.Tensor]:
    """The tensors of a file, by name; raises DataError if it is missing, damaged or of another kind."""
    try:
        content = Path(path).read_bytes()
        begin = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:begin])
        header.pop("__metadata__", None)
        return {name: _tensor(content[begin:], **entry) for name, entry in header.items()}
    except FileNotFoundError as error:
        raise DataError(f"weights file {path} does not exist; check the path") from error
    except Exception as error:  # a damaged file can say anything
        raise DataError(f"{path} is damaged or not of the format of safetensors; save the weights again") from error


def _tensor(numbers: bytes, dtype: str, shape: list[int], data_offsets: list[int]) -> torch.Tensor:
    first, last = data_offsets
    if first == last:
        return torch.empty(shape, dtype=_KINDS[dtype])
    return torch.frombuffer(bytearray(numbers[first:last]), dtype=_KINDS[dtype]).reshape(shape)
