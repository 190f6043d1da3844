"""Imported by each Python that a run starts: where it is asked to, a job's process says at its end what it imported."""

import atexit
import json
import os
import sys
from pathlib import Path


def _say() -> None:
    job = getattr(sys.modules["__main__"], "snakemake", None)
    if hasattr(job, "wildcards"):
        modules = [name for name in sys.modules if name.count(".") == name.startswith("scipy.")]
        file = Path(os.environ[VARIABLE], " ".join([job.rule, *job.wildcards]))
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(modules))


VARIABLE = "CERTLIP_TESTS_IMPORTS"
"""A folder: a file a job, with its modules, and the parts of SciPy."""

if VARIABLE in os.environ:
    atexit.register(_say)
