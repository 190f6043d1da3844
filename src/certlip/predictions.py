"""What automatic plans predicted and what it came to: a row a program, or joint program, of a run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from certlip.base.record import Status
from certlip.partition.plan import Job, Plan
from certlip.solving.solved import SolvedBlock, blocks_of

if TYPE_CHECKING:
    import pandas as pd

Solved = tuple[str, str, Plan, list[SolvedBlock]]
"""(network, method, plan, blocks)."""

COLUMNS = ["network", "method", "job", "shape", "solver", "n_programs", "order", "n_weights", "status", "cut_short"]
COLUMNS += ["predicted_seconds", "seconds", "predicted_mb", "peak_mb"]


def collect(runs: Iterable[Solved]) -> pd.DataFrame:
    """A row a job of each plan that was predicted.

    shape: ``alone``, ``joint`` (the patches of a segment) or ``chained``; order: of the largest program; n_weights: of
    all; cut_short: whether a limit ended it, so that its seconds say little; seconds, peak_mb: as measured.
    """
    import pandas as pd

    rows = [
        _row(network, method, plan, number, job, solved)
        for network, method, plan, solved in runs
        if plan.prediction is not None
        for number, job in enumerate(plan.jobs)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def _row(network: str, method: str, plan: Plan, number: int, job: Job, solved: list[SolvedBlock]) -> dict[str, Any]:
    assert plan.prediction is not None
    predicted, blocks = plan.prediction.jobs[number], blocks_of(job, solved)
    ended_well = bool(blocks) and all(s.status == Status.OK for s in blocks)
    return {
        "network": network,
        "method": method,
        "job": job.label,
        "shape": "chained" if job.chained else "joint" if job.joint else "alone",
        "solver": next((s.solver for s in blocks if s.solver), plan.solver),
        "n_programs": len(job.places),
        "order": max(plan.orders(job)),
        "n_weights": sum(block.n_weights for block in plan.blocks_of(job)),
        "status": next((str(s.status) for s in blocks if s.rho is None), str(Status.OK)),
        "cut_short": not ended_well or any(s.reason for s in blocks),
        "predicted_seconds": predicted.seconds,
        "seconds": math.fsum(s.seconds for s in blocks) if ended_well else math.nan,
        "predicted_mb": predicted.peak_mb,
        "peak_mb": max(s.peak_mb for s in blocks) if ended_well else math.nan,
    }
