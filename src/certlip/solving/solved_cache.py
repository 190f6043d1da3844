"""A private folder of solved programs: one file each, named by what decides its outcome, read without pickle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib

from certlip.base.errors import CertlipError
from certlip.base.files import read_npz, write_npz
from certlip.partition.plan import Job
from certlip.solving.solved import SolvedBlock, from_arrays, to_arrays


class SolvedCache:
    """Solved programs by their content; folder: made with mode 0700, None for a cache that keeps nothing."""

    def __init__(self, folder: str | Path | None) -> None:
        self._folder = None if folder is None else Path(folder)
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            os.chmod(self._folder, 0o700)

    def path(self, *content: Any) -> Path | None:
        """Where the program with this content is kept: weights, solver, tolerance, code, ..."""
        if self._folder is None:
            return None
        key = joblib.hash(content, hash_name="sha1")
        return self._folder / key[:2] / f"{key[2:]}.npz"

    def find(self, path: Path | None, job: Job) -> list[SolvedBlock] | None:
        """The values of the job's blocks that a file claims: to be proved, since files may be damaged or forged.

        None where it is missing or anything but what `keep` writes: then the job is done again.
        """
        if path is None or not path.exists():
            return None
        try:
            header, arrays = read_npz(path)
            solved = from_arrays(header["solved"], arrays)
            if any(s.rho is None or s.reason or s.chained != job.chained for s in solved):
                return None
            pairs = zip(solved, sorted(job.places), strict=True)
            return [replace(s, segment=segment, block=block) for s, (segment, block) in pairs]
        except (CertlipError, LookupError, TypeError, ValueError, AttributeError):
            return None

    def keep(self, path: Path | None, solved: Sequence[SolvedBlock]) -> None:
        """Write what `find` reads, unless the clock ended a solve: that is no property of the program."""
        if path is not None and not any(s.reason for s in solved):
            entries, arrays = to_arrays(solved)
            write_npz(path, {"solved": entries}, arrays)
