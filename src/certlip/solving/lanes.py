"""Doing jobs of a plan: a process solves, while this one prepares what comes next and keeps what is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from certlip.base import limits
from certlip.base.deadline import Deadline
from certlip.base.errors import LimitExceeded, NoBound
from certlip.base.limits import Limits
from certlip.network import Network
from certlip.partition.plan import Job, Plan
from certlip.solving.jobs import Problem, blocks_of, content_of, finish_problem, problem_of, refused, solve_problem
from certlip.solving.solved import SolvedBlock
from certlip.solving.solved_cache import SolvedCache
from certlip.solving.solved_proofs import solved_flaw

Batch = list[tuple[int, Job]]
"""Jobs with their numbers, sent together: to wait for each message takes as long as a small program."""

SMALL = 300
"""Programs up to this order are small."""
MOST_IN_A_BATCH = 32


def batches(plan: Plan, jobs: Sequence[Job], n_lanes: int) -> Iterator[Batch]:
    """The largest jobs first, large ones alone and small ones together, such that each lane has its share."""
    orders = [sum(plan.orders(job)) for job in jobs]
    numbered = sorted(enumerate(jobs), key=lambda numbered: -orders[numbered[0]])
    large = [[one] for one in numbered if orders[one[0]] > SMALL]
    small = numbered[len(large) :]
    most = max(1, min(MOST_IN_A_BATCH, len(jobs) // (4 * n_lanes)))
    return iter(large + [small[i : i + most] for i in range(0, len(small), most)])


class Prepared(NamedTuple):
    number: int
    job: Job
    problem: Problem
    path: Path | None


@dataclass(frozen=True)
class Lane:
    """Does batch after batch; several lanes may share their batches.

    limit: of each program; code: stands for the code that decides the outcomes; tell: is told a job's number and
    blocks when it is done; until: when the last program has to end.
    """

    network: Network
    plan: Plan
    limit: Limits
    cache: SolvedCache
    code: str
    tell: Callable[[int, list[SolvedBlock]], None]
    until: Deadline = field(default_factory=Deadline)

    def work(self, shared: Iterator[Batch]) -> None:
        """Take batches until there are none; after an error there are none for other lanes either."""
        try:
            waiting: list[Prepared] = []
            outcomes: Iterator[limits.Measured | NoBound] = iter(())
            for batch in shared:
                alone = len(batch) == 1  # perhaps a large one: two of them would take twice the memory
                if alone:
                    self._collect(waiting, outcomes)
                    waiting = []
                following = [found for number, job in batch if (found := self._prepare(number, job))]
                self._collect(waiting, outcomes)
                waiting, outcomes = following, self._begin(following)
                if alone:  # what comes next is for the lane that is free first
                    self._collect(waiting, outcomes)
                    waiting = []
            self._collect(waiting, outcomes)
        finally:
            for _ in shared:
                pass

    def _prepare(self, number: int, job: Job) -> Prepared | None:
        """What is left to be solved; a job that is in the cache, and proved by what lies there, or refused, is done."""
        try:
            problem = problem_of(self.network, self.plan, job)
        except NoBound as refusal:
            self.tell(number, refused(job, refusal))
            return None
        path = self.cache.path(content_of(problem), self.plan.solver, self.plan.rtol, self.limit.max_seconds, self.code)
        known = self.cache.find(path, job)
        if known is not None and not self._flaw(job, known):
            self.tell(number, known)
            return None
        if not self.until.allows(0):
            self.tell(number, refused(job, LimitExceeded("time_limit", "no time was left for it")))
            return None
        return Prepared(number, job, problem, path)

    def _flaw(self, job: Job, known: Sequence[SolvedBlock]) -> str:
        """What does not hold of blocks from the cache; large programs are proved under the limits of solving them."""
        arguments = self.network, self.plan, known
        if sum(self.plan.orders(job)) <= SMALL:
            return solved_flaw(*arguments)
        try:
            return str(limits.call(solved_flaw, *arguments, limit=self.limit).value)
        except LimitExceeded as refusal:
            return str(refusal)

    def _begin(self, prepared: Sequence[Prepared]) -> Iterator[limits.Measured | NoBound]:
        left = [seconds for seconds in (self.limit.max_seconds, self.until.max_seconds) if seconds is not None]
        limit = replace(self.limit, max_seconds=min(left, default=None))
        common = (self.plan.solver, self.plan.rtol, *vars(limit).values())
        batch = [(one.job, one.problem, *common) for one in prepared]
        return limits.begin(solve_problem, batch, limit, finish_problem)

    def _collect(self, prepared: Sequence[Prepared], outcomes: Iterator[limits.Measured | NoBound]) -> None:
        for one, outcome in zip(prepared, outcomes, strict=False):
            solved = blocks_of(one.job, outcome)
            self.cache.keep(one.path, solved)
            self.tell(one.number, solved)
