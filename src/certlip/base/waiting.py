"""What was looked for in vain: written down, said at the end of a run, and tried again once it can be had."""

from __future__ import annotations

import glob
import hashlib
import json
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path

from certlip.base.errors import NoData
from certlip.base.files import write_atomically

_SECONDS_TO_ANSWER = 3


def save_attempt(path: str | Path, attempt: int, refusal: NoData | None) -> None:
    """Write how often a file was fetched, and what came of it."""
    outcome = None
    if refusal is not None:
        files = {file: _stamp(file) for file in refusal.files}
        outcome = {"reason": str(refusal), "files": files, "urls": refusal.urls}
    with write_atomically(path, "w") as handle:
        json.dump({"attempt": attempt, "waits": outcome}, handle, indent=1)


def attempt(path: str | Path) -> int:
    """The number of the last attempt written to `path`, or of the next where that waits and would now succeed.

    A parameter of the rules that fetch: only its change makes Snakemake fetch again.
    """
    written = _read(path)
    waits = written["waits"]
    return written["attempt"] + (waits is not None and _can_be_had(**waits))


def contents(path: str | Path | None) -> dict[str, str]:
    """The checksum of somebody's own file, and of each beside it whose name begins with its own, where an ONNX file may
    have its numbers; nothing of what is missing.

    A parameter of the rule that reads it: as its input, a missing file would stop the run.
    """
    found: dict[str, str] = {}
    for name in sorted(glob.glob(f"{glob.escape(str(path))}*")) if path else []:
        with suppress(OSError), open(name, "rb") as file:
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _read(path: str | Path) -> dict:
    return json.loads(Path(path).read_text()) if Path(path).exists() else {"attempt": 0, "waits": None}


def _can_be_had(reason: str, files: dict[str, list[int] | None], urls: list[str]) -> bool:
    if not files and not urls:
        return True  # it was there and could not be read: only another attempt tells whether it was repaired
    stamps = {file: _stamp(file) for file in files}
    return (None not in stamps.values() and stamps != files) or any(map(_answers, urls))


def _stamp(file: str) -> list[int] | None:
    """What changes with a file's content, None if there is no such file."""
    return [(stat := Path(file).stat()).st_mtime_ns, stat.st_size] if Path(file).exists() else None


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_SECONDS_TO_ANSWER):
            return True
    except (OSError, ValueError, HTTPException):
        return False
