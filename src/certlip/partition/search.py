"""The plan predicted tightest within a budget, and a second one where a program of the first might fail.

Dynamic programming over where segments end. For each layer that may begin a segment, all plans of the layers before it
that no other plan beats in predicted loss and time are kept; one of a segment's candidates is put behind each of them.
Loss and time only grow on the way, so what is over the budget is dropped at once and nothing that could win is lost
(`certlip.partition.predict`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np

from certlip.base.errors import UnsupportedLayer
from certlip.network import LINEAR, Flatten, MaxPool, Network, Pair, Shape
from certlip.partition.calibration import Calibration, joint_size
from certlip.partition.plan import Merge, Plan, SegmentPlan
from certlip.partition.predict import LOSSES, segment_looseness, wall_seconds
from certlip.partition.segment import make_segment
from certlip.sdp.folded import memory_mb

RESERVE = 0.15
"""Share of the budget kept for a second plan where a program of the first may fail."""
SPREAD = 2.0
"""A program is planned only if it would keep the limits though it took so many times as long as predicted: the aim is
that nine in ten take less (table ``predictions``)."""
RISK = 4.0
"""A program may fail unless it would keep them though it took so many times as long: the worst prediction known."""

SIDES = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32)
"""Patches along a side that are tried: grids are square as far as the map is."""
LEFT = "left to its layer constants: its programs are predicted not to fit the budget and the limits"


class Budget(NamedTuple):
    """seconds: of wall time, on so many cores; caution: times as long as predicted that a program may take and still
    keep the limits."""

    seconds: float
    cores: int = 1
    caution: float = 1.0


class Run(NamedTuple):
    """Segments that may be chained: how many, and the seconds and size of their joint program."""

    n_segments: int = 0
    seconds: float = 0.0
    widest: int = 0
    n_weights: int = 0
    n_rows: int = 0

    def __or__(self, other: Run) -> Run:
        n_segments, seconds, widest, n_weights, n_rows = other
        return Run(
            self.n_segments + n_segments,
            self.seconds + seconds,
            max(self.widest, widest),
            self.n_weights + n_weights,
            self.n_rows + n_rows,
        )


class Candidate(NamedTuple):
    """A segment with its predicted loss, the seconds of its jobs, and itself as a run where it can be chained."""

    segment: SegmentPlan
    looseness: float
    jobs: tuple[float, ...]
    run: Run


class Partial(NamedTuple):
    """A plan of the first layers; run: the segments that the next one could be chained to."""

    looseness: float = 0.0
    total: float = 0.0
    longest: float = 0.0
    run: Run = Run()
    segments: tuple[SegmentPlan, ...] = ()


class Search:
    """Among the partitions of a network.

    spans: layers [first, last) that may be a segment; grid: of each with a convolution, None to choose; calibration: of
    the solver; merge, chain: of the plan.
    """

    def __init__(
        self,
        network: Network,
        spans: Sequence[Pair],
        grid: Pair | None,
        calibration: Calibration,
        merge: Merge,
        chain: bool,
    ) -> None:
        self.calibration, self.merge, self.chain, self.budget = calibration, merge, chain, Budget(0.0)
        self._ends = sorted({last for _, last in spans})
        self._candidates = {span: self._all_candidates(network, *span, grid) for span in spans}

    def plans(self, budget: Budget) -> tuple[SegmentPlan, ...]:
        """The segments of the first plan, and of the second where the first needs one.

        The tighter of two: the best plan within the budget of which no program may fail; or the best within all but
        `RESERVE` of it, of which some may, and beside it the best in what is left of which none may.
        """
        safe = self.best(budget._replace(caution=RISK))
        bold = self.best(budget._replace(seconds=(1 - RESERVE) * budget.seconds, caution=SPREAD))
        if safe.looseness <= bold.looseness:
            return safe.segments
        beside = Partial(total=bold.total, longest=bold.longest)
        second = self.best(budget._replace(caution=RISK), beside).segments
        if not any(segment.blocks for segment in second):
            return bold.segments
        chained = [self.chain and segment.chainable for segment in second]
        added = [s for s, needed in zip(second, chained, strict=True) if needed or s not in bold.segments]
        return (*bold.segments, *(s.model_copy(update={"second": True, "note": ""}) for s in added))

    def best(self, budget: Budget, beside: Partial | None = None) -> Partial:
        """The plan predicted tightest within the budget, and of those the fastest; beside: work that is done anyway."""
        self.budget = budget
        fronts: dict[int, list[Partial]] = {0: [beside or Partial()]}
        for last in self._ends:
            reached = [
                longer
                for (first, end), candidates in self._candidates.items()
                if end == last
                for candidate in candidates
                if self._keeps_limits(candidate)
                for partial in fronts[first]
                if (longer := self._extend(partial, candidate)) is not None
            ]
            fronts[last] = self._front(reached)
        ends = [closed for p in fronts[self._ends[-1]] if (closed := self._close(p)) is not None]
        return min(ends, key=lambda p: (p.looseness, self._wall(p), len(p.segments)))

    def _all_candidates(self, network: Network, first: int, last: int, grid: Pair | None) -> list[Candidate]:
        """The ways to bound layers [first, last) that may keep the limits; its layer constants always do."""
        segment = make_segment(network, first, last, (1, 1))
        if not segment.blocks:
            return [self._candidate(network, segment)]
        found = [segment.model_copy(update={"blocks": (), "note": LEFT})]
        for tried in [grid] if grid else _grids(network.shapes[last]):
            try:
                segment = make_segment(network, first, last, tried, self.merge, self.chain)
            except UnsupportedLayer:  # layers that cannot be cut, or patches that read nothing but padding
                continue
            plan = self._plan(segment)
            if all(self.calibration.admits(plan, job) for job in plan.jobs):
                found.append(segment)
        return [self._candidate(network, segment) for segment in found]

    def _plan(self, segment: SegmentPlan) -> Plan:
        return Plan(segments=(segment,), merge=self.merge, solver=self.calibration.solver)

    def _keeps_limits(self, candidate: Candidate) -> bool:
        """Whether each of its programs does, with the caution that is asked for."""
        plan = self._plan(candidate.segment)
        return all(self.calibration.admits(plan, job, self.budget.caution) for job in plan.jobs)

    def _candidate(self, network: Network, segment: SegmentPlan) -> Candidate:
        plan = self._plan(segment)
        start = self.calibration.start_seconds
        jobs = tuple(self.calibration.job_seconds(plan.blocks_of(job), job.joint) + start for job in plan.jobs)
        run = Run()
        if self.chain and segment.chainable:
            run = Run(1, self.calibration.job_seconds(segment.blocks, joint=True), *joint_size(segment.blocks))
        return Candidate(segment, segment_looseness(network, segment, self.merge), jobs, run)

    def _extend(self, partial: Partial, candidate: Candidate) -> Partial | None:
        """The partial plan with one more segment, None if it is over the budget or its chain over the limits."""
        segment, looseness, jobs, run = candidate
        if partial.segments:
            looseness += LOSSES.chained_cut if partial.run.n_segments and run.n_segments else LOSSES.cut
        closed = partial if run.n_segments else self._close(partial)
        if closed is None:
            return None
        longer = Partial(
            closed.looseness + looseness,
            closed.total + math.fsum(jobs),
            max(closed.longest, *jobs, 0.0),
            closed.run | run,
            (*closed.segments, segment),
        )
        return longer if self._wall(longer) <= self.budget.seconds else None

    def _close(self, partial: Partial) -> Partial | None:
        """The partial plan with its open run counted as a job, which one segment alone is not."""
        run = partial.run
        if run.n_segments < 2:
            return partial._replace(run=Run())
        seconds = run.seconds + self.calibration.start_seconds
        total, longest = partial.total + seconds, max(partial.longest, seconds)
        closed = partial._replace(total=total, longest=longest, run=Run())
        fits = self.calibration.keeps_limits(run.seconds, memory_mb(*run[2:]), self.budget.caution)
        return closed if fits and self._wall(closed) <= self.budget.seconds else None

    def _front(self, partials: Sequence[Partial]) -> list[Partial]:
        """Those that no other one beats in predicted loss and time, whatever follows."""
        front = []
        for n_open in (0, 1, 2):
            alike = sorted((p for p in partials if min(p.run.n_segments, 2) == n_open), key=self._cost)
            costs = np.array([self._cost(p) for p in alike])
            alive = np.ones(len(alike), dtype=bool)
            for i, partial in enumerate(alike):
                if alive[i]:
                    front.append(partial)
                    alive[i + 1 :] &= (costs[i + 1 :] < costs[i]).any(axis=1)
        return front

    def _cost(self, partial: Partial) -> tuple[float, ...]:
        """What must not be larger for a partial plan to be as good as another with as open a run."""
        longest = partial.longest if self.budget.cores > 1 else 0.0
        return (partial.looseness, partial.total, longest, *partial.run[1:])

    def _wall(self, partial: Partial) -> float:
        return wall_seconds(partial.total, partial.longest, self.budget.cores)


def spans_between(network: Network, ends: Sequence[int] = ()) -> list[Pair]:
    """What may be a segment: the layers between any two that may begin one, none of the ends between them.

    Activations stay behind the layer they follow and a flattening before the layer it feeds; pooling is on its own.
    """
    layers = network.layers
    pools = [i for i, layer in enumerate(layers) if isinstance(layer, MaxPool)]
    starts = {i for i, layer in enumerate(layers) if isinstance(layer, LINEAR)}
    starts = {i - 1 if i and isinstance(layers[i - 1], Flatten) else i for i in starts}
    cuts = {*ends, *pools, *(i + 1 for i in pools)}
    places = sorted({0, len(layers)} | starts | cuts)
    return [(a, b) for a, b in combinations(places, 2) if not any(a < cut < b for cut in cuts)]


def _grids(shape: Shape) -> list[Pair]:
    if len(shape) == 1:
        return [(1, 1)]
    return list(dict.fromkeys((min(side, shape[1]), min(side, shape[2])) for side in SIDES))
