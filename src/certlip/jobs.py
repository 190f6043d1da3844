"""One job of a plan: a semidefinite program set up from network and plan, solved within limits, certified."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from certlip import limits, sdp
from certlip.chain import Chain, linear_groups
from certlip.errors import NoBound
from certlip.limits import Limits
from certlip.merge import on_window
from certlip.network import Array, Network
from certlip.partition.plan import Job, Plan, SegmentPlan
from certlip.partition.segment import cover
from certlip.partition.window import restrict
from certlip.provenance import fingerprint
from certlip.record import Status
from certlip.sdp.folded import Block, Folded, Stage, solve_folded
from certlip.sdp.metric import absorb

EARLY = "the solver was stopped at its time limit: certified, but not the tightest"


@dataclass(frozen=True, eq=False)
class SolvedBlock:
    """The outcome of one distinct semidefinite program of a plan.

    segment, block: its place in the plan; chained: whether it belongs to one of the plan's chains; rho, multipliers:
    None and empty unless status is ok; metric: d of shape (n_0,) where the merge wants one, and rho is one then;
    reason: why there is none, or what there is to say; seconds: of solving and certifying; peak_mb: of its process.
    """

    segment: int
    block: int
    status: str
    reason: str = ""
    rho: float | None = None
    multipliers: tuple[Array, ...] = ()
    seconds: float = 0.0
    peak_mb: float = 0.0
    order: int = 0
    iterations: int | None = None
    solver: str = ""
    solver_version: str = ""
    margin: float | None = None
    metric: Array | None = None
    chained: bool = False


def solve_job(solve: Any, network: Network, plan: Plan, job: Job, limit: Limits) -> list[SolvedBlock]:
    """The outcome of each block of a job; solve: `solve_content`, cached or not."""
    try:
        return (_solve_jointly if job.joint else _solve_block)(solve, network, plan, job, limit)
    except NoBound as error:
        chained = len(job.segments) > 1
        return [SolvedBlock(*p, status=error.status, reason=str(error), chained=chained) for p in job.places]


def _solve_block(solve: Any, network: Network, plan: Plan, job: Job, limit: Limits) -> list[SolvedBlock]:
    ((index, block),) = job.places
    segment = plan.segments[index]
    part = network.segment(segment.first, segment.last)
    patch, _ = restrict(part, segment.blocks[block].windows[0])
    weights = equal_shares(part, segment, block) if plan.merges_metrics(index) else None
    lmi = sdp.Lmi.of(Chain.of(patch), weights)
    measured = solve(lmi, plan.solver, plan.rtol, limit.max_seconds, _code(plan), limit)
    solution: sdp.Solution = measured.value
    found = {f.name: getattr(solution, f.name) for f in fields(SolvedBlock) if hasattr(solution, f.name)}
    if weights is not None:
        absorbed = absorb(lmi, solution.rho, solution.multipliers)
        found |= {"rho": 1.0, "metric": absorbed.metric, "margin": absorbed.margin}
    early = EARLY if solution.status == "time_limit" else ""
    found |= {"status": Status.OK, "reason": early, "peak_mb": measured.peak_mb}
    return [SolvedBlock(index, block, **found)]


def _solve_jointly(solve: Any, network: Network, plan: Plan, job: Job, limit: Limits) -> list[SolvedBlock]:
    stages = tuple(_stage(network, plan.segments[index]) for index in job.segments)
    measured = solve(stages, plan.solver, plan.rtol, limit.max_seconds, _code(plan), limit)
    solution: Folded = measured.value
    shared: dict[str, Any] = {
        f.name: getattr(solution, f.name) for f in fields(SolvedBlock) if hasattr(solution, f.name)
    }
    shared |= {
        "status": Status.OK,
        "reason": EARLY if solution.status == "time_limit" else "",
        "peak_mb": measured.peak_mb,
        "chained": len(stages) > 1,
        # the blocks of a job share its time equally, so that sums over blocks are right
        "seconds": solution.seconds / len(job.places),
    }
    solved = []
    for index, stage, blocks in zip(job.segments, stages, solution.blocks, strict=True):
        for number, (block, found) in enumerate(zip(stage.blocks, blocks, strict=True)):
            own: dict[str, Any] = {"rho": 1.0, "order": block.lmi.order}
            own |= {f.name: getattr(found, f.name) for f in fields(found)}
            solved.append(SolvedBlock(index, number, **own, **shared))
    return solved


def _stage(network: Network, segment: SegmentPlan) -> Stage:
    part = network.segment(segment.first, segment.last)
    inputs, outputs = (np.arange(math.prod(s)).reshape(s) for s in (part.input_shape, part.shapes[-1]))
    blocks = []
    for planned in segment.blocks:
        patch, _ = restrict(part, planned.windows[0])
        reads = np.array([on_window(inputs, field) for field in planned.fields])
        writes = np.array([on_window(outputs, window) for window in planned.windows])
        blocks.append(Block(sdp.Lmi.of(Chain.of(patch)), reads, writes))
    return Stage(tuple(blocks), inputs.size, linear_groups(part)[2])


def _code(plan: Plan) -> str:
    return fingerprint("certlip.sdp", "certlip.sdp.folded", *plan.solver_modules)


def equal_shares(part: Network, segment: SegmentPlan, block: int) -> Array:
    """The input metric of merge ``weighted``: each pixel shared equally between the patches that read it.

    Patches that are one program take what suits all of them.
    """
    counts = cover([field for b in segment.blocks for field in b.fields], part.input_shape)
    fields = segment.blocks[block].fields
    largest = np.max([counts[field.slices] if field else counts for field in fields], axis=0)
    return np.tile(1.0 / largest.ravel(), part.input_shape[0])


def solve_content(
    problem: sdp.Lmi | tuple[Stage, ...],
    solver: str,
    rtol: float,
    max_seconds: float | None,
    code: str,
    limit: Limits,
) -> limits.Measured:
    """One program; every argument but the last decides the outcome, `code` through what it stands for."""
    arguments = (problem, solver, rtol, limit.threads, max_seconds, limit.max_memory_mb)
    return limits.call(sdp.solve_lmi if isinstance(problem, sdp.Lmi) else solve_folded, *arguments, limit=limit)
