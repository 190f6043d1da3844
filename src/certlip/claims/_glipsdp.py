"""Files of GLipSDP (github.com/ppauli/GLipSDP), in a copy of its repository."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from certlip.base.errors import DataError, NoData

SOURCE = "GLipSDP (github.com/ppauli/GLipSDP)"
FOLDER = "GLipSDP"


def found(folder: Path, file: str) -> Path:
    """A file of the repository; raises NoData where there is no copy."""
    path = folder / file
    if not path.exists():
        clone = f"git clone https://github.com/ppauli/GLipSDP {folder / FOLDER}"
        raise NoData(f"{path} is not there; make a copy of its repository: {clone}", [str(path)])
    return path


def read_mat(folder: Path, file: str) -> dict[str, Any]:
    """What a file of MATLAB holds, its structures as dictionaries; raises NoData, or DataError if it is damaged."""
    import scipy

    path = found(folder, file)
    try:
        content: dict[str, Any] = scipy.io.loadmat(path, simplify_cells=True)
    except Exception as error:  # a damaged file can raise almost anything
        raise DataError(f"{path} cannot be read ({type(error).__name__}); copy the repository again") from error
    return content
