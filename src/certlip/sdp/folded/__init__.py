"""The joint program of all patches of one or more stages, their input metrics among the variables (merge ``folded``).

Propose by ascent on the dual, certify block by block, and where a gap stays open try what fixed metrics give.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

import numpy as np

from certlip.base.deadline import Deadline
from certlip.base.errors import LimitExceeded, NotCertified
from certlip.network import Array
from certlip.proof.certify import certify
from certlip.proof.lmi import Lmi, Multipliers
from certlip.proof.metric import CertifiedMetric, absorb
from certlip.sdp import relative_gap, solve_lmi
from certlip.sdp.folded.problem import Block, Stage
from certlip.sdp.folded.propose import Found, Point, ascend, backwards, opened, top
from certlip.sdp.looks import Looks
from certlip.sdp.structured.rows import RANK
from certlip.sdp.threads import by_size

__all__ = ["Block", "Folded", "Stage", "finish_folded", "solve_folded"]

N_WEIGHTS, N_LAYERS = 7, 4
"""Copies of all weights, and matrices of the order of the widest layer, alive at the peak."""
UNJUDGED = (0.01, 0.1, 0.5)
"""Shares given up in turn for the feasibility of a point of an unfinished ascent."""
N_ROWS = 12
"""Copies of the rows of all blocks, of `RANK` numbers a row, alive at the peak of a sweep."""


@dataclass(frozen=True, eq=False)
class Folded:
    """A certified point of the joint program.

    blocks: verified metric and multipliers of each block of each stage; value: max_p D^0(p); lower: the ascent's dual
    bound on it; iterations: rounds of ascent; status: ``ok`` or ``time_limit`` (certified all the same).
    """

    blocks: tuple[tuple[CertifiedMetric, ...], ...]
    value: float
    lower: float
    seconds: float
    iterations: int
    status: str
    solver: str
    solver_version: str

    @property
    def gap(self) -> float | None:
        """The constant that this proves over that of the dual bound, minus one."""
        return relative_gap(self.value, self.lower)


def solve_folded(
    stages: Sequence[Stage],
    solver: str = "auto",
    rtol: float = 1e-4,
    threads: int = 1,
    max_seconds: float | None = None,
    max_memory_mb: float | None = None,
    report: Callable[[Callable[[], Found]], None] | None = None,
) -> Folded:
    """Certified metrics of all blocks with nearly the smallest max_p D^0(p).

    solver: of the programs with fixed metrics that take over where the ascent of a single stage leaves a gap above
    rtol; report: told what the ascent has so far, for `finish_folded`. Raises LimitExceeded where time or memory did
    not suffice for any point, NotCertified.
    """
    import torch  # noqa: F401, before the clock starts

    begin, deadline = time.monotonic(), Deadline.after(max_seconds)
    lmis = [block.lmi for stage in stages for block in stage.blocks]
    widest, n_weights = max(max(lmi.sizes) for lmi in lmis), sum(w.size for lmi in lmis for w in lmi.weights)
    needed = memory_mb(widest, n_weights, sum(lmi.order for lmi in lmis))
    if max_memory_mb is not None and needed > max_memory_mb:
        reason = f"all patches together need about {needed:.0f} MB, the limit is {max_memory_mb:.0f} MB"
        raise LimitExceeded("memory_limit", reason)
    Looks(*lmis).check(deadline)
    found = ascend(stages, rtol, threads, deadline, report)
    points, name = [found.point] if math.isfinite(found.value) else [], "folded"
    if found.gap > rtol and found.status == "ok" and len(stages) == 1:
        points += _with_fixed_metrics(stages[0], found.point, solver, rtol, threads, deadline)
        name = f"folded, {solver}"
    if not points:
        raise (
            NotCertified("the ascent found no feasible metrics")
            if found.status == "ok"
            else LimitExceeded("time_limit", f"no feasible metrics within {max_seconds:g} s")
        )
    best = replace(found, point=min(points, key=lambda p: top(stages, p)))
    return _certified_folded(stages, best, name, begin)


def finish_folded(stages: Sequence[Stage], found: Found) -> Folded:
    """What the last report of `solve_folded` proves; raises NotCertified where that is nothing."""
    begin, point = time.monotonic(), found.point
    if not math.isfinite(found.value):  # nobody has looked yet whether it is feasible
        point = next((p for share in UNJUDGED if (p := opened(stages, point, share))), point)
    return _certified_folded(stages, replace(found, point=point, status="time_limit"), "folded", begin)


def _certified_folded(stages: Sequence[Stage], found: Found, solver: str, begin: float) -> Folded:
    with by_size(*(block.lmi for stage in stages for block in stage.blocks)):
        blocks = _certified(stages, found.point)
    return Folded(
        blocks=blocks,
        value=float(stages[0].load([b.metric for b in blocks[0]]).max()),
        lower=found.lower,
        seconds=time.monotonic() - begin,
        iterations=found.iterations,
        status=found.status,
        solver=solver,
        solver_version=version("certlip"),
    )


def memory_mb(widest: int, n_weights: int, n_rows: int) -> float:
    """Predicted peak memory for blocks with this widest layer, and so many weights and rows in all, torch included."""
    return 300.0 + 8 * (N_LAYERS * widest**2 + N_WEIGHTS * n_weights + N_ROWS * RANK * n_rows) / 2**20


def _certified(stages: Sequence[Stage], point: Point) -> tuple[tuple[CertifiedMetric, ...], ...]:
    certified: dict[int, CertifiedMetric] = {}

    def judge(lmi: Lmi, multipliers: Multipliers) -> tuple[Array, Multipliers]:
        proved = certify(lmi, multipliers)
        absorbed = absorb(lmi, proved.rho, proved.multipliers)
        certified[id(absorbed.metric)] = absorbed
        return absorbed.metric, absorbed.multipliers

    corrected = backwards(stages, point, judge)
    if corrected is None:
        raise NotCertified("no metric could be verified")
    return tuple(tuple(certified[id(metric)] for metric, _ in blocks) for blocks in corrected)


def _with_fixed_metrics(
    stage: Stage, point: Point, solver: str, rtol: float, threads: int, deadline: Deadline
) -> list[Point]:
    """What the metrics of the ascent, those of ``weighted`` and those of ``cover`` give, multipliers free."""
    points = []
    equal = [np.ones(block.reads.shape[1]) for block in stage.blocks]
    for metrics in ([d for d, _ in point[0]], stage.shares(), equal):
        if not all((metric > 0).all() for metric in metrics):
            continue  # some of it underflowed, and the program divides by it
        pairs = []
        for block, metric in zip(stage.blocks, metrics, strict=True):
            lmi = replace(block.lmi, input_metric=metric)
            solution = solve_lmi(lmi, solver, rtol, threads, deadline.max_seconds)
            pairs.append((solution.rho * metric, solution.multipliers))
        points.append([pairs])
    return points
