"""One job of a plan: a semidefinite program described from network and plan, set up where it is solved, certified.

A description holds weights of layers. The matrices, which are much larger, are written out in the process that solves,
under its limits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from certlip import sdp
from certlip.base import limits
from certlip.base.deadline import Deadline
from certlip.base.errors import LimitExceeded, NoBound, NotCertified
from certlip.base.limits import Measured
from certlip.base.provenance import fingerprint
from certlip.base.record import Status
from certlip.network import Array, Network, Shape
from certlip.network.chain import Chain, linear_groups
from certlip.network.window import Window, restrict
from certlip.partition.merges import Shares
from certlip.partition.plan import Job, Plan, SegmentPlan
from certlip.partition.segment import cover
from certlip.proof.merge import on_window
from certlip.proof.metric import absorb
from certlip.sdp.folded import Block, Folded, Stage, finish_folded, solve_folded
from certlip.sdp.folded.problem import Indices
from certlip.solving.solved import SolvedBlock


@dataclass(frozen=True, eq=False)
class Program:
    """One semidefinite program: of a patch's network, and where the merge gives it one its input metric."""

    patch: Network
    metric: Array | None

    def lmi(self) -> sdp.Lmi:
        return sdp.Lmi.of(Chain.of(self.patch), self.metric)

    @property
    def content(self) -> tuple:
        """What decides the outcome."""
        return self.patch.sha256, self.metric


@dataclass(frozen=True, eq=False)
class Patches:
    """A `Stage` before its matrices are written out: of each block the patch's network, what it reads and writes."""

    blocks: tuple[tuple[Network, Indices, Indices], ...]
    n_in: int
    scale: float

    def stage(self) -> Stage:
        blocks = (Block(sdp.Lmi.of(Chain.of(patch)), reads, writes) for patch, reads, writes in self.blocks)
        return Stage(tuple(blocks), self.n_in, self.scale)

    @property
    def content(self) -> tuple:
        """What decides the outcome."""
        return [(patch.sha256, reads, writes) for patch, reads, writes in self.blocks], self.n_in, self.scale


Problem = Program | tuple[Patches, ...]
"""What is solved: one semidefinite program, or one for all blocks of some segments together."""


def problem_of(network: Network, plan: Plan, job: Job) -> Problem:
    """Describe a job; raises NoBound for layers that allow none."""
    if job.joint:
        return tuple(_patches(network, plan.segments[index]) for index in job.segments)
    ((index, block),) = job.places
    segment = plan.segments[index]
    part = network.segment(segment.first, segment.last)
    patch, _ = restrict(part, segment.blocks[block].windows[0])
    shares = plan.rule.shares if plan.merges_metrics(index) else None
    return Program(patch, None if shares is None else input_metric(part, segment, block, shares))


def content_of(problem: Problem) -> Any:
    """What decides the outcome of a problem, for `SolvedCache.path`."""
    return problem.content if isinstance(problem, Program) else [patches.content for patches in problem]


def solve_problem(
    job: Job, problem: Problem, solver: str, rtol: float, threads: int, max_seconds: float | None, max_mb: float | None
) -> list[SolvedBlock]:
    """Set up, solve and certify within the limits, in whatever process this is; raises NoBound.

    What is found on the way is reported, for `finish_problem`.
    """
    deadline = Deadline.after(max_seconds)
    sdp.solvers.choose(solver, 0)  # imports what it needs, before the clock of `SolvedBlock.seconds` starts

    def of_program(lmi: sdp.Lmi) -> sdp.Solution:
        return sdp.solve_lmi(lmi, solver, rtol, threads, deadline.max_seconds, max_mb, limits.report)

    def of_stages(stages: Sequence[Stage]) -> Folded:
        return solve_folded(stages, solver, rtol, threads, deadline.max_seconds, max_mb, limits.report)

    return _solved(job, problem, of_program, of_stages, f"the time limit of {max_seconds} s")


def finish_problem(job: Job, problem: Problem, *rest: Any) -> list[SolvedBlock]:
    """Certify what `solve_problem`, called with the same arguments, had reported when it was ended.

    rest: its other arguments, the report and why it was ended. Raises NoBound where that proves nothing.
    """
    *_, reported, why = rest
    if reported is None:
        raise NotCertified(why)
    return _solved(job, problem, partial(sdp.finish, draft=reported), partial(finish_folded, found=reported), why)


def _solved(
    job: Job,
    problem: Problem,
    of_program: Callable[[sdp.Lmi], sdp.Solution],
    of_stages: Callable[[Sequence[Stage]], Folded],
    why: str,
) -> list[SolvedBlock]:
    """The blocks of a job; why: a solution may have been cut short."""
    begin = time.monotonic()
    solution: sdp.Solution | Folded
    if isinstance(problem, Program):
        lmi = problem.lmi()
        solution = program = of_program(lmi)
        solved = _of_program(job, lmi, program)
    else:
        stages = tuple(patches.stage() for patches in problem)
        solution = folded = of_stages(stages)
        solved = _of_stages(job, stages, folded)
    # the blocks of a job share its time equally, so that sums over blocks are right
    seconds = (time.monotonic() - begin) / len(solved)
    reason = "" if solution.status == "ok" else f"{why} cut it short: {sdp.left_open(solution.gap)}"
    return [replace(block, seconds=seconds, reason=reason) for block in solved]


def blocks_of(job: Job, outcome: Measured | NoBound) -> list[SolvedBlock]:
    """The outcome of each block of a job."""
    if isinstance(outcome, NoBound):
        return refused(job, outcome)
    return [replace(block, peak_mb=outcome.peak_mb) for block in outcome.value]


def refused(job: Job, error: NoBound) -> list[SolvedBlock]:
    """Why there is no outcome, for each block of a job."""
    seconds = error.seconds / len(job.places) if isinstance(error, LimitExceeded) else 0.0
    common: dict[str, Any] = {**vars(error.refusal), "chained": job.chained, "seconds": seconds}
    return [SolvedBlock(*place, **common) for place in job.places]


def _of_program(job: Job, lmi: sdp.Lmi, solution: sdp.Solution) -> list[SolvedBlock]:
    found = {f.name: getattr(solution, f.name) for f in fields(SolvedBlock) if hasattr(solution, f.name)}
    if lmi.input_metric is not None:
        absorbed = absorb(lmi, solution.rho, solution.multipliers)
        found |= {"rho": 1.0, "metric": absorbed.metric, "margin": absorbed.margin}
    return [SolvedBlock(*job.places[0], **{**found, "status": Status.OK})]


def _of_stages(job: Job, stages: tuple[Stage, ...], solution: Folded) -> list[SolvedBlock]:
    shared: dict[str, Any] = {
        f.name: getattr(solution, f.name) for f in fields(SolvedBlock) if hasattr(solution, f.name)
    }
    shared |= {"status": Status.OK, "chained": job.chained}
    solved = []
    for index, stage, blocks in zip(job.segments, stages, solution.blocks, strict=True):
        for number, (block, found) in enumerate(zip(stage.blocks, blocks, strict=True)):
            own: dict[str, Any] = {"rho": 1.0, "order": block.lmi.order}
            own |= {f.name: getattr(found, f.name) for f in fields(found)}
            solved.append(SolvedBlock(index, number, **own, **shared))
    return solved


def _patches(network: Network, segment: SegmentPlan) -> Patches:
    part = network.segment(segment.first, segment.last)
    inputs, outputs = (np.arange(math.prod(s)).reshape(s) for s in (part.input_shape, part.shapes[-1]))
    blocks = []
    for planned in segment.blocks:
        patch, _ = restrict(part, planned.windows[0])
        reads = np.array([on_window(inputs, field) for field in planned.fields])
        writes = np.array([on_window(outputs, window) for window in planned.windows])
        blocks.append((patch, reads, writes))
    return Patches(tuple(blocks), inputs.size, linear_groups(part)[2])


def code_of(plan: Plan) -> str:
    """Stands for the code that decides what a program's outcome is."""
    return fingerprint(__name__, *sdp.solvers.modules(plan.solver))


def input_metric(part: Network, segment: SegmentPlan, block: int, shares: Shares) -> Array:
    """The input metric that a merge gives a block: patches that are one program take what suits all of them."""
    counts = _counts(tuple(field for b in segment.blocks for field in b.fields), part.input_shape)
    fields = segment.blocks[block].fields
    largest = np.max([counts[field.slices] if field else counts for field in fields], axis=0)
    return np.tile(shares(largest).ravel(), part.input_shape[0])


@lru_cache(1)
def _counts(fields: tuple[Window | None, ...], shape: Shape) -> NDArray[np.int64]:
    return cover(fields, shape)
