"""What a machine can solve: seconds of a semidefinite program by its size, and the largest order within the limits.

How long a program takes goes by the entries of its matrices, counted as if none were zero. `certlip.solving.calibrate`
measures; planning only reads it, so that a plan is a function of shapes and of this file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import ClassVar

import numpy as np

from certlip.base.errors import Refusal
from certlip.base.model import FileModel, Model
from certlip.partition.plan import BlockPlan, Job, Plan
from certlip.sdp import Lmi, folded, solvers


class Law(Model):
    """seconds = base + factor * n_weights ** exponent of a program; points: (n_weights, seconds) it was fitted to."""

    base: float
    factor: float
    exponent: float
    points: tuple[tuple[int, float], ...] = ()

    def seconds(self, n_weights: Sequence[int]) -> float:
        """Of programs of these sizes, one after the other."""
        return sum(self.base + self.factor * n**self.exponent for n in n_weights)


class Calibration(FileModel):
    """One solver on one machine, under the limits of one program.

    alone: a program of its own; joint: each block of a joint program; start_seconds: until a process is ready to solve;
    n_max: the largest order of a program within time and memory; seconds: what measuring took; refusal: why nothing was
    measured.
    """

    noun: ClassVar = "calibration"

    solver: str
    threads: int = 1
    max_seconds: float | None = None
    max_memory_mb: float | None = None
    alone: Law = Law(base=0.0, factor=0.0, exponent=1.0)
    joint: Law = Law(base=0.0, factor=0.0, exponent=1.0)
    start_seconds: float = 0.0
    n_max: int = 0
    seconds: float = 0.0
    refusal: Refusal | None = None
    cpu: str = ""
    host: str = ""
    code: str = ""
    versions: Mapping[str, str] = {}
    started_at: str = ""

    def job_seconds(self, blocks: Sequence[BlockPlan], joint: bool) -> float:
        """Predicted time of a job: one program, or one for all these blocks together."""
        return (self.joint if joint else self.alone).seconds([block.n_weights for block in blocks])

    def admits(self, plan: Plan, job: Job, caution: float = 1.0) -> bool:
        """Whether a job of a plan is predicted to keep the limits, though it take `caution` times as long."""
        seconds = self.job_seconds(plan.blocks_of(job), job.joint)
        return self.keeps_limits(seconds, job_memory_mb(plan, job), caution)

    def keeps_limits(self, seconds: float, peak_mb: float, caution: float = 1.0) -> bool:
        """Whether a program predicted to take so much does, though it take `caution` times as long."""
        in_time = self.max_seconds is None or caution * seconds <= self.max_seconds
        allowed = math.inf if self.max_memory_mb is None else self.max_memory_mb
        return in_time and peak_mb <= allowed and math.isfinite(peak_mb)


def job_memory_mb(plan: Plan, job: Job) -> float:
    """Predicted peak memory of a job's process, infinite where its solver takes no program of the size."""
    blocks = plan.blocks_of(job)
    if job.joint:
        return folded.memory_mb(*joint_size(blocks))
    return _solver_memory_mb(plan.solver, blocks[0].solved_sizes)


def joint_size(blocks: Sequence[BlockPlan]) -> tuple[int, int, int]:
    """What the memory of a joint program goes by: its widest layer, and all weights and rows of its matrices."""
    widest = max(max(block.solved_sizes) for block in blocks)
    return widest, sum(block.n_weights for block in blocks), sum(block.solved_order for block in blocks)


@lru_cache(None)
def _solver_memory_mb(solver: str, sizes: tuple[int, ...]) -> float:
    names = solvers.names() if solver == "auto" else [solver]
    admitting = [a for name in names if (a := solvers.load(name)).INFO.max_order >= sum(sizes[:-1])]
    if not admitting:
        return math.inf
    adapter = min(admitting, key=lambda a: a.INFO.preference)
    weights = tuple(np.broadcast_to(0.0, (after, before)) for before, after in pairwise(sizes))
    predicted: float = adapter.memory_mb(Lmi(weights, ((0.0, 1.0),) * (len(weights) - 1)))
    return predicted
