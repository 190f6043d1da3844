"""The plan predicted tightest within a budget, and a second one where a program of the first might fail.

Dynamic programming over where segments end. For each layer that may begin a segment, all plans of the layers before it
that no other plan beats in predicted loss and time are kept; one of a segment's candidates is put behind each of them.
Loss and time only grow on the way, so what is over the budget is dropped at once and nothing that could win is lost
(`certlip.partition.predict`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import NamedTuple, TypeVar

import numpy as np

from certlip.base.errors import UnsupportedLayer
from certlip.network import COUPLED, LINEAR, Activation, Conv, Dense, Flatten, Layer, MaxPool, Network, Pair, Shape
from certlip.network.slopes import are_identity
from certlip.partition.calibration import Calibration, job_memory_mb, joint_size
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
    """A segment with its predicted loss, the seconds of its jobs in all and of the longest, and itself as a run where
    it can be chained; slowest: seconds of the longest job without the start of its process; peak_mb: of the largest."""

    segment: SegmentPlan
    looseness: float
    total: float
    longest: float
    run: Run
    slowest: float
    peak_mb: float

    @property
    def cost(self) -> tuple[float, ...]:
        """What must not be larger for a candidate to be as good as another, both for a run or both not."""
        return (self.looseness, self.total, self.longest, *self.run[1:], self.slowest, self.peak_mb)


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
        self._alike: dict[tuple, list[Candidate]] = {}
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
                if self._keeps_limits(candidate, budget.caution)
                for partial in fronts[first]
                if (longer := self._extend(partial, candidate)) is not None
            ]
            fronts[last] = self._front(reached)
        last = self._ends[-1] if self._ends else 0
        ends = [closed for p in fronts[last] if (closed := self._close(p)) is not None]
        return min(ends, key=lambda p: (p.looseness, self._wall(p), len(p.segments)))

    def _all_candidates(self, network: Network, first: int, last: int, grid: Pair | None) -> list[Candidate]:
        """The ways to bound layers [first, last) that may keep the limits; its layer constants always do.

        Layers of the same shapes have the same ways: what a deep network repeats is planned once.
        """
        part = network.segment(first, last)
        shapes = (part.input_shape, *map(_shape_of, part.layers))
        if shapes not in self._alike:
            self._alike[shapes] = self._new_candidates(network, first, last, grid)
        here = {"first": first, "last": last, "layers": tuple(layer.name for layer in part.layers)}
        return [c._replace(segment=c.segment.model_copy(update=here)) for c in self._alike[shapes]]

    def _new_candidates(self, network: Network, first: int, last: int, grid: Pair | None) -> list[Candidate]:
        segment = make_segment(network, first, last, (1, 1))
        if not segment.blocks:
            return [self._candidate(network, segment)]
        found = [self._candidate(network, segment.model_copy(update={"blocks": (), "note": LEFT}))]
        for tried in [grid] if grid else _grids(network.shapes[last]):
            try:
                segment = make_segment(network, first, last, tried, self.merge, self.chain)
            except UnsupportedLayer:  # layers that cannot be cut, or patches that read nothing but padding
                continue
            candidate = self._candidate(network, segment)
            if self._keeps_limits(candidate, 1.0):
                found.append(candidate)
        return [
            candidate
            for n_segments in (0, 1)
            for candidate in unbeaten([c for c in found if c.run.n_segments == n_segments], lambda c: c.cost)
        ]

    def _keeps_limits(self, candidate: Candidate, caution: float) -> bool:
        """Whether each of its programs does, though it take `caution` times as long as predicted."""
        return self.calibration.keeps_limits(candidate.slowest, candidate.peak_mb, caution)

    def _candidate(self, network: Network, segment: SegmentPlan) -> Candidate:
        plan = Plan(segments=(segment,), merge=self.merge, solver=self.calibration.solver)
        seconds = [self.calibration.job_seconds(plan.blocks_of(job), job.joint) for job in plan.jobs]
        times = [each + self.calibration.start_seconds for each in seconds]
        run = Run()
        if self.chain and segment.chainable:
            run = Run(1, self.calibration.job_seconds(segment.blocks, joint=True), *joint_size(segment.blocks))
        return Candidate(
            segment,
            segment_looseness(network, segment, self.merge),
            math.fsum(times),
            max(times, default=0.0),
            run,
            max(seconds, default=0.0),
            max((job_memory_mb(plan, job) for job in plan.jobs), default=0.0),
        )

    def _extend(self, partial: Partial, candidate: Candidate) -> Partial | None:
        """The partial plan with one more segment, None if it is over the budget or its chain over the limits."""
        if wall_seconds(partial.total + candidate.total, 0.0, self.budget.cores) > self.budget.seconds:
            return None
        segment, looseness, run = candidate.segment, candidate.looseness, candidate.run
        if partial.segments:
            looseness += LOSSES.chained_cut if partial.run.n_segments and run.n_segments else LOSSES.cut
        closed = partial if run.n_segments else self._close(partial)
        if closed is None:
            return None
        longer = Partial(
            closed.looseness + looseness,
            closed.total + candidate.total,
            max(closed.longest, candidate.longest),
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
        front: list[Partial] = []
        for n_open in (0, 1, 2):
            front += unbeaten([p for p in partials if min(p.run.n_segments, 2) == n_open], self._cost)
        return front

    def _cost(self, partial: Partial) -> tuple[float, ...]:
        """What must not be larger for a partial plan to be as good as another with as open a run."""
        longest = partial.longest if self.budget.cores > 1 else 0.0
        return (partial.looseness, partial.total, longest, *partial.run[1:])

    def _wall(self, partial: Partial) -> float:
        return wall_seconds(partial.total, partial.longest, self.budget.cores)


T = TypeVar("T")


def unbeaten(items: Sequence[T], cost: Callable[[T], tuple[float, ...]]) -> list[T]:
    """Those than which no other is as good in everything; the first of equals."""
    ranked = sorted(items, key=cost)
    costs = np.array([cost(item) for item in ranked])
    alive = np.ones(len(ranked), dtype=bool)
    for i in range(len(ranked)):
        if alive[i]:
            alive[i + 1 :] &= (costs[i + 1 :] < costs[i]).any(axis=1)
    return [item for item, lives in zip(ranked, alive, strict=True) if lives]


def spans_between(network: Network, ends: Sequence[int] = ()) -> list[Pair]:
    """What may be a segment: the layers between any two that may begin one, none of the ends between them.

    Activations stay behind the layer they follow and a flattening before the layer it feeds; what is one of `COUPLED`
    is on its own.
    """
    layers = network.layers
    alone = [i for i, layer in enumerate(layers) if isinstance(layer, COUPLED)]
    starts = {i for i, layer in enumerate(layers) if isinstance(layer, LINEAR)}
    starts = {i - 1 if i and isinstance(layers[i - 1], Flatten) else i for i in starts}
    cuts = {*ends, *alone, *(i + 1 for i in alone)}
    places = sorted({0, len(layers)} | starts | cuts)
    return [(a, b) for a, b in combinations(places, 2) if not any(a < cut < b for cut in cuts)]


def _shape_of(layer: Layer) -> tuple:
    """What a plan sees of a layer."""
    match layer:
        case Conv():
            return layer.weight.shape, layer.stride, layer.padding, layer.dilation, layer.groups
        case Dense():
            return layer.weight.shape
        case Activation():
            return Activation, are_identity(layer.slopes)
        case MaxPool():
            return layer.kernel, layer.stride, layer.padding
    return (type(layer),)


def _grids(shape: Shape) -> list[Pair]:
    if len(shape) == 1:
        return [(1, 1)]
    return list(dict.fromkeys((min(side, shape[1]), min(side, shape[2])) for side in SIDES))
