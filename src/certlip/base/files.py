"""Writing files so that a kill never leaves half of one."""

from __future__ import annotations

import errno
import json
import math
import operator
import os
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from certlip.base.errors import DamagedFile, DataError, Refusal


@contextmanager
def write_atomically(path: str | Path, mode: str = "wb") -> Iterator[IO]:
    """Open a temporary file beside `path` and rename it to `path` when the block ends without an error.

    Raises DataError if the disk is full or the folder may not be written to.
    """
    target = Path(path)
    temporary = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        with os.fdopen(descriptor, mode) as handle:
            yield handle
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in _NO_PLACE:
            raise DataError(f"{path} cannot be written ({error.strerror}); make room there and run again") from error
        raise


_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


FREE_BYTES = 2**26
"""What any file may unpack to."""
MOST_BYTES_A_BYTE = 100
"""What a larger one may unpack to, for each byte of its own: weights are packed to a half, not to a thousandth."""

MOST_BYTES_OF_A_HEADER = 2**25
"""A partition into fifty thousand patches takes a sixth of it."""

_DTYPES = {np.dtype(name) for name in ("<f8", "<f4", "<i8", "u1")}
"""Of arrays in files: nothing that is complex, text, or an object."""


def write_npz(path: str | Path, header: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays and a JSON header (kept as bytes under ``header``) to one .npz file, atomically.

    The header names the arrays and their shapes: `read_npz` reads no others.
    """
    shapes = {key: list(np.shape(array)) for key, array in arrays.items()}
    encoded = json.dumps({**header, _ARRAYS: shapes}, sort_keys=True).encode()
    members = {"header": np.frombuffer(encoded, dtype=np.uint8), **cast(dict[str, Any], arrays)}
    with write_atomically(path) as handle:
        np.savez_compressed(handle, **members)
        if sum(array.nbytes for array in members.values()) > _most_bytes(handle.tell()):
            handle.seek(0)  # nearly all zeros, and large: `read_npz` unpacks no such thing
            handle.truncate()
            np.savez(handle, **members)


def write_refusal(path: str | Path, refusal: Refusal) -> None:
    """Write, in place of a file of `write_npz`, why there is none: `read_npz` raises it."""
    write_npz(path, refusal.to_header(), {})


def read_npz(path: str | Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read a file of `write_npz`, whoever wrote it: only the arrays that its header names, none larger than the header
    says, and none that a small file unpacks to something huge.

    Raises DataError if it is missing, damaged or of another kind. A file of `write_refusal` raises what it says.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = _members(archive, Path(path).stat().st_size)
            header = json.loads(_array(archive, members["header"]).tobytes())
            # files of before version 0.1 name no arrays: all are read, within the size of the whole
            shapes = header.pop(_ARRAYS, dict.fromkeys(members.keys() - {"header"}))
            arrays = {key: _array(archive, members[key], shape) for key, shape in shapes.items()}
        refusal = Refusal.from_header(header)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except MemoryError as error:
        raise DataError(f"{path} does not fit into the memory of this machine; read it on a larger one") from error
    except Exception as error:  # a damaged archive can raise almost anything from zipfile, zlib, json and NumPy
        raise DamagedFile(f"{path} is damaged or not a certlip file", path) from error
    if refusal is not None:
        raise refusal.error()
    return header, arrays


_ARRAYS = "arrays"
"""Key of the header: name of each array to its shape."""


def _most_bytes(n_bytes: int) -> int:
    return FREE_BYTES + MOST_BYTES_A_BYTE * n_bytes


def _members(archive: zipfile.ZipFile, n_bytes: int) -> dict[str, zipfile.ZipInfo]:
    """The members of an archive of `n_bytes`, by the names of their arrays; raises ValueError for any other archive."""
    found = archive.infolist()
    members = {info.filename.removesuffix(".npy"): info for info in found}
    # other kinds of compression are unpacked as a whole, whatever size was stated
    if len(members) != len(found) or {info.compress_type for info in found} - {
        zipfile.ZIP_STORED,
        zipfile.ZIP_DEFLATED,
    }:
        raise ValueError("not the members of an array file")
    if (
        sum(info.file_size for info in found) > _most_bytes(n_bytes)
        or members["header"].file_size > MOST_BYTES_OF_A_HEADER
    ):
        raise ValueError("it would unpack to far more than it is")
    return members


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, shape: Sequence[int] | None = None) -> NDArray[Any]:
    """The array of one member; raises ValueError unless it has the shape, if one is given, and nothing besides."""
    with archive.open(info) as member:
        if npy.read_magic(member) != (1, 0):
            raise ValueError("not an array of NumPy's first format")
        stated, fortran_order, dtype = npy.read_array_header_1_0(member)
        if dtype not in _DTYPES or (shape is not None and list(stated) != shape):
            raise ValueError(f"{info.filename} is no array of {shape} plain numbers")
        if info.file_size != member.tell() + math.prod(stated) * dtype.itemsize:
            raise ValueError(f"{info.filename} is not of the size that its shape implies")
        content, n_read = np.empty(info.file_size - member.tell(), np.uint8), 0
        while chunk := member.read(2**20):  # the last one has the checksum looked at
            content[n_read : n_read + len(chunk)] = np.frombuffer(chunk, np.uint8)
            n_read += len(chunk)
        if n_read < len(content):
            raise ValueError(f"{info.filename} ends too early")
    return content.view(dtype).reshape(stated, order="F" if fortran_order else "C")


def floats(array: NDArray[Any]) -> NDArray[np.float64]:
    """The array, if it is one of doubles; raises ValueError for any other: a rounded number is another number."""
    if array.dtype != np.float64:
        raise ValueError(f"numbers of type {array.dtype} instead of float64")
    return array


def number(value: Any) -> float:
    """A number of a JSON header; raises TypeError for anything else, OverflowError beyond the largest double."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"a {type(value).__name__} instead of a number")
    return float(value)


def whole(value: Any) -> int:
    """A whole number of a JSON header; raises TypeError for anything else, a truth value among it."""
    if isinstance(value, bool):
        raise TypeError("a truth value instead of a whole number")
    return operator.index(value)


def text(value: Any) -> str:
    """A name in a JSON header, of one line; raises TypeError for anything else."""
    if not (isinstance(value, str) and value.isprintable()):
        raise TypeError(f"a {type(value).__name__} instead of a text of one line")
    return value
