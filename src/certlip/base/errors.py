"""The errors that are a user's to read: one sentence each, naming the thing and the remedy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


class CertlipError(Exception):
    """Base of every error whose message is written for the user; the command line prints it without a trace."""


class ConfigError(CertlipError):
    """A configuration file, option or name is wrong."""


class DataError(CertlipError):
    """A data set, weights file or certificate is missing, corrupt or not what it claims to be."""


class DamagedFile(DataError):
    """A file that certlip writes is not what it should be; reason: without the remedy. That is to delete it only where
    the workflow made it (`certlip.workflow.sentence_of`): any other file may be somebody's own."""

    def __init__(self, reason: str, path: str | Path) -> None:
        super().__init__(reason, path)
        self.reason, self.path = reason, Path(path)

    def __str__(self) -> str:
        return f"{self.reason}; give another file, or have this one made again"


class Stopped(CertlipError):
    """A process was ended from outside: that says nothing of the network, so it is no row, and the next run goes on."""


class NoBound(CertlipError):
    """A method gives no bound of a network: a row with a status and this reason, not a failed run."""

    status = "unsupported"

    @property
    def refusal(self) -> Refusal:
        return Refusal(self.status, str(self))


class UnsupportedLayer(NoBound):
    """No bound is known for a layer; the message is ``layer name: no bound for Type``."""


class SolverUnavailable(NoBound):
    """A solver is not installed or has no licence."""

    status = "solver_failed"


class SolverFailed(NoBound):
    """A solver ended without usable multipliers."""

    status = "solver_failed"


class NotCertified(NoBound):
    """Nothing a method proposed could be verified."""

    status = "not_certified"


class NoData(NoBound):
    """A file could be neither found nor downloaded: the rows that need it wait.

    files: where they are looked for; urls: addresses of which one has to answer for a download to be worth trying.
    """

    status = "no_data"

    def __init__(self, reason: str, files: Sequence[str] = (), urls: Sequence[str] = ()) -> None:
        super().__init__(reason)
        self.files, self.urls = tuple(files), tuple(urls)


class LimitExceeded(NoBound):
    """A limit of time or memory was hit, or is predicted to be hit.

    status: ``time_limit`` or ``memory_limit``; reported: what the call that was ended had by then, None for nothing;
    seconds: that it took.
    """

    def __init__(self, status: str, reason: str, reported: Any = None, seconds: float = 0.0) -> None:
        super().__init__(status, reason)
        self.status, self.reported, self.seconds = status, reported, seconds

    def __str__(self) -> str:
        return self.args[1]


class Interrupted(KeyboardInterrupt):
    """A person ended the work; kept: what was certified by then, a `Bound` or the `Record` of one."""

    def __init__(self, kept: Any) -> None:
        super().__init__("interrupted")
        self.kept = kept


class ExportError(CertlipError):
    """A torch module and the network exported from it do not compute the same function."""


@dataclass(frozen=True)
class Refusal:
    """Why there is none: no bound, plan, network, weights or data; status: one of `REFUSALS`; reason: a sentence."""

    status: str
    reason: str

    def error(self) -> NoBound:
        """The same as an error of the class that has this status."""
        if self.status in ("time_limit", "memory_limit"):
            return LimitExceeded(self.status, self.reason)
        kinds = (UnsupportedLayer, NotCertified, SolverFailed, NoData)
        return next(kind for kind in kinds if kind.status == self.status)(self.reason)

    def to_header(self) -> dict[str, str]:
        """What a file holds in place of what there is none of."""
        return {"refused": self.reason, "status": self.status}

    @classmethod
    def from_header(cls, header: Mapping[str, Any]) -> Refusal | None:
        """What `to_header` gave; None for anything else."""
        status, reason = header.get("status"), header.get("refused")
        known = isinstance(status, str) and status in REFUSALS and isinstance(reason, str)
        return cls(str(status), " ".join(str(reason).split())) if known else None


REFUSALS = ("unsupported", "time_limit", "memory_limit", "not_certified", "solver_failed", "no_data")
"""Every status of a `Record` but ``ok``."""
