"""What processes that work for another one import that takes long to import: each starts with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import imports
import pytest

SCIPY = ["scipy.linalg", "scipy.sparse", "scipy.special"]

CALLED = """
import imports
from certlip.base.limits import Limits, call
print(*call(imports.heavy, limit=Limits(max_seconds=100)).value)
"""
KINDS = {
    "forked": (CALLED, SCIPY),
    "started anew": (f"import threading\nthreading.Thread(target=input, daemon=True).start()\n{CALLED}", SCIPY),
    "of a folder that is proved": (
        """
import imports, joblib, pathlib
from certlip.completeness import _row_flaw
work = joblib.delayed(imports.after)(_row_flaw, pathlib.Path("nowhere"), ("network", "method"), None)
print(*joblib.Parallel(2)([work])[0])
""",
        ["pandas", "pyarrow"],
    ),
}
"""Processes -> what prints their imports, and those that they need."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_imports_no_more_than_it_needs(kind: str) -> None:
    code, needed = KINDS[kind]
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=Path(imports.__file__).parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline().split() == needed
        process.communicate()
    assert process.returncode == 0
