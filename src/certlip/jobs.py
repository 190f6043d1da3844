"""One job of a plan: a semidefinite program set up from network and plan, solved, certified."""

from __future__ import annotations

import math
from dataclasses import fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certlip import sdp
from certlip.chain import Chain, linear_groups
from certlip.errors import NoBound
from certlip.limits import Measured
from certlip.merge import on_window
from certlip.network import Array, Network, Shape
from certlip.partition.plan import Job, Plan, SegmentPlan
from certlip.partition.segment import cover
from certlip.partition.window import Window, restrict
from certlip.provenance import fingerprint
from certlip.record import Status
from certlip.sdp.folded import Block, Folded, Stage, solve_folded
from certlip.sdp.metric import absorb
from certlip.solved import SolvedBlock

EARLY = "the solver was stopped at its time limit: certified, but not the tightest"


Problem = sdp.Lmi | tuple[Stage, ...]
"""What is solved: one semidefinite program, or one for all blocks of some segments together."""


def problem_of(network: Network, plan: Plan, job: Job) -> Problem:
    """Set up a job; raises NoBound for layers that allow none, and for what is too large."""
    if job.joint:
        return tuple(_stage(network, plan.segments[index]) for index in job.segments)
    ((index, block),) = job.places
    segment = plan.segments[index]
    part = network.segment(segment.first, segment.last)
    patch, _ = restrict(part, segment.blocks[block].windows[0])
    weights = equal_shares(part, segment, block) if plan.merges_metrics(index) else None
    return sdp.Lmi.of(Chain.of(patch), weights)


def blocks_of(job: Job, problem: Problem, outcome: Measured | NoBound) -> list[SolvedBlock]:
    """The outcome of each block of a job."""
    try:
        if isinstance(outcome, NoBound):
            return refused(job, outcome)
        if isinstance(problem, sdp.Lmi):
            return _of_program(job, problem, outcome)
        return _of_stages(job, problem, outcome)
    except NoBound as refusal:
        return refused(job, refusal)


def refused(job: Job, refusal: NoBound) -> list[SolvedBlock]:
    """Why there is no outcome, for each block of a job."""
    common: dict[str, Any] = {"status": refusal.status, "reason": str(refusal), "chained": job.chained}
    return [SolvedBlock(*place, **common) for place in job.places]


def _of_program(job: Job, lmi: sdp.Lmi, measured: Measured) -> list[SolvedBlock]:
    solution: sdp.Solution = measured.value
    found = {f.name: getattr(solution, f.name) for f in fields(SolvedBlock) if hasattr(solution, f.name)}
    if lmi.input_metric is not None:
        absorbed = absorb(lmi, solution.rho, solution.multipliers)
        found |= {"rho": 1.0, "metric": absorbed.metric, "margin": absorbed.margin}
    early = EARLY if solution.status == "time_limit" else ""
    found |= {"status": Status.OK, "reason": early, "peak_mb": measured.peak_mb}
    return [SolvedBlock(*job.places[0], **found)]


def _of_stages(job: Job, stages: tuple[Stage, ...], measured: Measured) -> list[SolvedBlock]:
    solution: Folded = measured.value
    shared: dict[str, Any] = {
        f.name: getattr(solution, f.name) for f in fields(SolvedBlock) if hasattr(solution, f.name)
    }
    shared |= {
        "status": Status.OK,
        "reason": EARLY if solution.status == "time_limit" else "",
        "peak_mb": measured.peak_mb,
        "chained": job.chained,
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


def code_of(plan: Plan) -> str:
    """Stands for the code that decides what a program's outcome is."""
    return fingerprint(__name__, *plan.solver_modules)


def equal_shares(part: Network, segment: SegmentPlan, block: int) -> Array:
    """The input metric of merge ``weighted``: each pixel shared equally between the patches that read it.

    Patches that are one program take what suits all of them.
    """
    counts = _counts(tuple(field for b in segment.blocks for field in b.fields), part.input_shape)
    fields = segment.blocks[block].fields
    largest = np.max([counts[field.slices] if field else counts for field in fields], axis=0)
    return np.tile(1.0 / largest.ravel(), part.input_shape[0])


@lru_cache(1)
def _counts(fields: tuple[Window | None, ...], shape: Shape) -> NDArray[np.int64]:
    return cover(fields, shape)


def solve_problem(
    problem: Problem,
    solver: str,
    rtol: float,
    threads: int,
    max_seconds: float | None,
    max_memory_mb: float | None,
) -> sdp.Solution | Folded:
    """Solve and certify, in whatever process this is."""
    if isinstance(problem, sdp.Lmi):
        return sdp.solve_lmi(problem, solver, rtol, threads, max_seconds, max_memory_mb)
    return solve_folded(problem, solver, rtol, threads, max_seconds, max_memory_mb)
