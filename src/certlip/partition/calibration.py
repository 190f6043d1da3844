"""What a machine can solve: seconds of a semidefinite program by its order, and the largest order within the limits.

Orders are those of matrices without zeros: how long the matrix inequality of a convolutional network takes is told by
the operations of its factorisation (`certlip.sdp.elimination`), not by its own order. `certlip.calibrate` measures;
planning only reads it, so that a plan is a function of shapes and of this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from certlip.partition.model import FileModel, Model
from certlip.partition.plan import Job, Plan
from certlip.sdp import folded


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

    def admits(self, plan: Plan, job: Job) -> bool:
        """Whether a job of a plan is predicted to keep the limits."""
        dense, orders = plan.dense_orders(job), plan.orders(job)
        if not job.joint:
            return max(dense) <= self.n_max
        return self.admits_joint(self.job_seconds(dense, joint=True), max(orders), sum(orders))

    def admits_joint(self, seconds: float, largest: int, total: int) -> bool:
        """Whether a joint program is, by its predicted seconds and its blocks' largest and total order."""
        in_time = self.max_seconds is None or seconds <= self.max_seconds
        return in_time and (self.max_memory_mb is None or folded.memory_mb(largest, total) <= self.max_memory_mb)
