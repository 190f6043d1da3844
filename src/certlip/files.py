"""Writing files so that a kill never leaves half of one."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
from numpy.typing import NDArray

from certlip.errors import DataError, NoBound, NoData, UnsupportedLayer


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


def write_npz(path: str | Path, header: dict[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays and a JSON header (kept as bytes under ``header``) to one .npz file, atomically."""
    encoded = np.frombuffer(json.dumps(header, sort_keys=True).encode(), dtype=np.uint8)
    with write_atomically(path) as handle:
        np.savez_compressed(handle, header=encoded, **cast(dict[str, Any], arrays))


def write_refusal(path: str | Path, refusal: NoBound) -> None:
    """Write, in place of a file of `write_npz`, why there is none: `read_npz` raises it."""
    write_npz(path, {"refused": str(refusal), "status": refusal.status}, {})


def read_npz(path: str | Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read a file of `write_npz`; raises DataError if it is missing, truncated or of another kind.

    A file of `write_refusal` raises what it says: NoData or UnsupportedLayer.
    """
    try:
        with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        header = json.loads(arrays.pop("header").tobytes())
        if not isinstance(header, dict):
            raise ValueError("its header is not a mapping")
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist") from error
    except Exception as error:  # a damaged archive can raise almost anything from zipfile, zlib and NumPy
        raise DataError(f"{path} is damaged or not a certlip file; delete it and run again") from error
    if "refused" in header:
        raise (NoData if header.get("status") == NoData.status else UnsupportedLayer)(header["refused"])
    return header, arrays
