"""What a machine can solve: seconds of a semidefinite program by its order, and the largest order within the limits.

Orders are those of matrices without zeros: how long the matrix inequality of a convolutional network takes is told by
the operations of its factorisation (`certlip.sdp.elimination`), not by its own order. `certlip.calibrate` measures;
planning only reads it, so that a plan is a function of shapes and of this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar

import numpy as np

from certlip.partition.model import FileModel, Model
from certlip.partition.plan import Job, Plan
from certlip.sdp import Lmi, folded, solvers


class Law(Model):
    """seconds = factor * order ** exponent, fitted to the points (dense order, seconds) of one program."""

    factor: float
    exponent: float
    points: tuple[tuple[int, float], ...] = ()

    def seconds(self, orders: Sequence[int]) -> float:
        """Of programs of these orders, one after the other."""
        return self.factor * sum(order**self.exponent for order in orders)


class Calibration(FileModel):
    """One solver on one machine, under the limits of one program.

    alone: a program of its own; joint: each block of a joint program; start_seconds: until a process is ready to solve;
    n_max: the largest dense order within time and memory; seconds: what measuring took; failure: why nothing was
    measured.
    """

    noun: ClassVar = "calibration"

    solver: str
    threads: int = 1
    max_seconds: float | None = None
    max_memory_mb: float | None = None
    alone: Law = Law(factor=0.0, exponent=1.0)
    joint: Law = Law(factor=0.0, exponent=1.0)
    start_seconds: float = 0.0
    n_max: int = 0
    seconds: float = 0.0
    failure: str = ""
    cpu: str = ""
    host: str = ""
    code: str = ""
    versions: Mapping[str, str] = {}
    started_at: str = ""

    def job_seconds(self, orders: Sequence[int], joint: bool) -> float:
        """Predicted time of a job: one program, or one for all these blocks together; orders: dense ones."""
        return (self.joint if joint else self.alone).seconds(orders)

    def admits(self, plan: Plan, job: Job, caution: float = 1.0) -> bool:
        """Whether a job of a plan is predicted to keep the limits, though it take `caution` times as long."""
        dense = plan.dense_orders(job)
        if not job.joint and max(dense) > self.n_max:
            return False
        return self.keeps_limits(self.job_seconds(dense, job.joint), job_memory_mb(plan, job), caution)

    def keeps_limits(self, seconds: float, peak_mb: float, caution: float = 1.0) -> bool:
        """Whether a program predicted to take so much does, though it take `caution` times as long."""
        in_time = self.max_seconds is None or caution * seconds <= self.max_seconds
        return in_time and (self.max_memory_mb is None or peak_mb <= self.max_memory_mb)


def job_memory_mb(plan: Plan, job: Job) -> float:
    """Predicted peak memory of a job's process."""
    if job.joint:
        orders = plan.orders(job)
        return folded.memory_mb(max(orders), sum(orders))
    ((segment, block),) = job.places
    return _solver_memory_mb(plan.solver, plan.segments[segment].blocks[block].solved_sizes)


@lru_cache(None)
def _solver_memory_mb(solver: str, sizes: tuple[int, ...]) -> float:
    names = solvers.names() if solver == "auto" else [solver]
    admitting = [a for name in names if (a := solvers.load(name)).INFO.max_order >= sum(sizes[:-1])]
    adapter = min(admitting or [solvers.load(names[0])], key=lambda a: a.INFO.preference)
    weights = tuple(np.broadcast_to(0.0, (after, before)) for before, after in pairwise(sizes))
    predicted: float = adapter.memory_mb(Lmi(weights, ((0.0, 1.0),) * (len(weights) - 1)))
    return predicted
