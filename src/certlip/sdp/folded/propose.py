"""Rounds of ascent until the point they propose is within rtol of the dual bound."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
import scipy

from certlip.base.deadline import Deadline
from certlip.network import Array
from certlip.proof.lmi import Lmi, Multipliers
from certlip.proof.proposals import smallest_rho
from certlip.sdp.folded.ascent import Ascent
from certlip.sdp.folded.problem import Stage
from certlip.sdp.looks import Looks, sweep
from certlip.sdp.threads import by_size

log = logging.getLogger(__name__)

FIRST_ROUND, GROWTH, MAX_ROUNDS = 20, 1.3, 16
"""Sweeps of the first round, their growth from round to round, and the last round: 4,400 sweeps in all."""
MAX_RANK = 64
RESERVE = 3.0
"""Time kept for judging and certifying the last point, in units of the time it took to judge one."""
OPENINGS = (0.1, 1.0, 10.0, 100.0)
"""Shares of rtol given up for strict feasibility: optimal multipliers may lie on the boundary. The first is enough
unless the ascent has converged and the gap is still open: then all are tried in turn."""
NEGLIGIBLE = 0.1
"""A gap up to this share of rtol is not made smaller. One between this and rtol is, as long as a round halves it."""
LEAST_SHARE = 1e-9
"""Share of an equal metric in every metric: an input that moves nothing needs a positive entry all the same."""

Pair = tuple[Array, Multipliers]
"""(d, T) of a block."""
Point = list[list[Pair]]
"""Of each block of each stage."""


@dataclass(frozen=True, eq=False)
class Found:
    """point: the best one; value: its max_p D^0(p), unverified; lower: dual bound; iterations: rounds."""

    point: Point
    value: float
    lower: float
    iterations: int
    status: Literal["ok", "time_limit"] = "ok"

    @property
    def gap(self) -> float:
        """(value - lower) / value."""
        return (self.value - self.lower) / self.value if math.isfinite(self.value) else math.inf


def ascend(
    stages: Sequence[Stage],
    rtol: float,
    threads: int = 1,
    deadline: Deadline = Deadline(),  # noqa: B008, frozen
    report: Callable[[Callable[[], Found]], None] | None = None,
) -> Found:
    """The best point of at most `MAX_ROUNDS` rounds; one within rtol is improved as long as that is cheap.

    report: told it as it changes.
    """
    import torch

    n_threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with by_size(*(block.lmi for stage in stages for block in stage.blocks)):
            return _rounds(stages, rtol, deadline, report or (lambda make: None))
    finally:
        torch.set_num_threads(n_threads)


def _rounds(
    stages: Sequence[Stage], rtol: float, deadline: Deadline, report: Callable[[Callable[[], Found]], None]
) -> Found:
    ascent = Ascent(stages)
    looks = Looks(*(block.lmi for stage in stages for block in stage.blocks))
    best, reserve = Found(ascent.proposal(), math.inf, 0.0, 0), RESERVE * looks.seconds
    for n_rounds in range(1, MAX_ROUNDS + 1):
        before, gap = ascent.lower, best.gap
        late = sweep(ascent, int(FIRST_ROUND * GROWTH ** (n_rounds - 1)), deadline, reserve)
        ascent.settle()
        progress = (ascent.lower - before) / ascent.lower if ascent.lower else 0.0
        best = replace(best, lower=ascent.lower, iterations=n_rounds)
        if progress <= rtol or late or n_rounds == MAX_ROUNDS:
            begin = time.perf_counter()
            best = _judged(stages, ascent.proposal(), best, rtol, is_last=late or progress <= 0.01 * rtol)
            reserve = RESERVE * (time.perf_counter() - begin)
        report(partial(_so_far, best, ascent))
        log.info("round %2d  lower %.9g  gap %.1e  rank %d", n_rounds, ascent.lower, best.gap, ascent.rank)
        if late or best.gap <= NEGLIGIBLE * rtol or gap / 2 < best.gap <= rtol:
            return replace(best, status="time_limit" if late else "ok")
        if progress <= 0.01 * rtol and best.gap > gap / 2 and ascent.rank < MAX_RANK:
            ascent.widen()
    return best


def _judged(stages: Sequence[Stage], proposal: Point, best: Found, rtol: float, is_last: bool) -> Found:
    """The best of what is known and of feasible points near the proposal; is_last: the ascent comes no nearer."""
    for share in OPENINGS if is_last else OPENINGS[:1]:
        point = opened(stages, proposal, share * rtol)
        value = math.inf if point is None else top(stages, point)
        if point is not None and value < best.value:
            best = replace(best, point=point, value=value)
        if best.gap <= rtol:
            break
    return best


def _so_far(best: Found, ascent: Ascent) -> Found:
    return best if math.isfinite(best.value) else replace(best, point=ascent.proposal())


def opened(stages: Sequence[Stage], proposal: Point, share: float) -> Point | None:
    """A feasible point near the proposal, up to rounding; None where none is found at this share."""
    point = []
    for number, (stage, blocks) in enumerate(zip(stages, proposal, strict=True)):
        metrics = [d for d, _ in blocks]
        if number == 0:
            metrics = _filled(stage, metrics)
        equal = stage.shares()
        level = max(float(d.max(initial=0.0)) for d in metrics) or 1.0
        metrics = [d + LEAST_SHARE * level * w for d, w in zip(metrics, equal, strict=True)]
        multipliers = [_opened(t, share) for _, t in blocks]
        point.append(list(zip(metrics, multipliers, strict=True)))
    return backwards(stages, point, _smallest)


def backwards(stages: Sequence[Stage], point: Point, judge: Callable[[Lmi, Multipliers], Pair | None]) -> Point | None:
    """The point as `judge` corrects it, from the last stage on, each stage with the output metric of the next.

    judge: from an inequality with both metrics and multipliers to a feasible (d, T), d a multiple of the input metric,
    or None. What multiplies the metrics of a stage multiplies all of the stages before it first.
    """
    corrected: Point = []
    growth, handed = 1.0, None
    for stage, blocks in reversed(list(zip(stages, point, strict=True))):
        found = []
        for block, (metric, multipliers) in zip(stage.blocks, blocks, strict=True):
            output = None if handed is None else handed[block.writes[0]]
            lmi = replace(block.lmi, input_metric=growth * metric, output_metric=output)
            pair = judge(lmi, tuple(growth * t for t in multipliers))
            if pair is None:
                return None
            found.append(pair)
        growth = max(float((new / old).max()) for (new, _), (old, _) in zip(found, blocks, strict=True))
        handed = stage.load([d for d, _ in found])
        corrected.append(found)
    return corrected[::-1]


def top(stages: Sequence[Stage], point: Point) -> float:
    """max_p D^0(p)."""
    return float(stages[0].load([d for d, _ in point[0]]).max())


def _smallest(lmi: Lmi, multipliers: Multipliers) -> Pair | None:
    if lmi.input_metric is None:
        return None
    first = lmi.weights[0] / np.sqrt(lmi.input_metric)
    if first.shape[1] > first.shape[0]:
        # a wide matrix sees its input only through its row space
        first = scipy.linalg.qr(first.T, mode="r", check_finite=False)[0][: first.shape[0]].T
    rho = smallest_rho(replace(lmi, weights=(first, *lmi.weights[1:]), input_metric=None), multipliers)
    return None if rho is None else (rho * lmi.input_metric, multipliers)


def _filled(stage: Stage, metrics: list[Array]) -> list[Array]:
    """Metrics raised as far as max_p D(p) allows: the multiplier of an input that hardly moves is noise."""
    load = stage.load(metrics)
    room = float(load.max()) / np.maximum(load, LEAST_SHARE * float(load.max()))
    return [d * room[block.reads].min(axis=0) for block, d in zip(stage.blocks, metrics, strict=True)]


def _opened(multipliers: Multipliers, share: float) -> Multipliers:
    """See `certlip.sdp.structured.ascent`: f^(L+1-i) T_i, which are strictly feasible with f^(L+1) times the metric."""
    n_layers = len(multipliers) + 1
    factor = (1 + share) ** (1 / n_layers)
    return tuple(t * factor ** (n_layers - i) for i, t in enumerate(multipliers, start=1))
