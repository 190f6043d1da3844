"""A solver that can be caught at work: the real one, which waits while a file ``hold`` lies in the working directory.

It notes each program that it begins, with its process, and each that it has solved.
"""

import os
import time
from pathlib import Path

from certlip.sdp.solvers import Proposal, SolverInfo, structured

INFO = SolverInfo(title="held", preference=99, max_order=20_000, version=lambda: "0")
FREE = 2
"""How many programs are solved before the wait begins."""

unavailable = structured.unavailable
memory_mb = structured.memory_mb


def solve(lmi, *, rtol, threads, max_seconds) -> Proposal:
    """The proposal of the structured solver."""
    note("begun", f"{os.getpid()}")
    while (
        Path("hold").exists()
        and len(Path("solved").read_text().splitlines() if Path("solved").exists() else []) >= FREE
    ):
        time.sleep(0.05)
    proposal = structured.solve(lmi, rtol=rtol, threads=threads, max_seconds=max_seconds)
    note("solved", f"{lmi.order}")
    return proposal


def note(file: str, line: str) -> None:
    """Add a line in one write."""
    with open(file, "a") as journal:
        journal.write(f"{line}\n")
