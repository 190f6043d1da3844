"""What the scripts of the workflow share: a log for each job, errors in one sentence, networks from their entries."""

from __future__ import annotations

import atexit
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

from certlip.base import attempts
from certlip.base.errors import CertlipError, ConfigError, DamagedFile, DataError, ExportError, NoBound, Refusal
from certlip.base.limits import Limits
from certlip.base.timing import save_timing
from certlip.config import ConfigFile, settings

if TYPE_CHECKING:
    pass


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
