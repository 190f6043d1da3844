"""The best bound of several methods within a budget of time; what was certified outlives whatever ends a method.

The members run one after the other, each until its share of the budget or what is left of all is used up. Which of them
run is decided by predictions and by shares of the whole budget: the clock only cuts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

from certlip.base import progress
from certlip.base.deadline import Deadline
from certlip.base.errors import Interrupted, LimitExceeded, NoBound
from certlip.base.limits import Limits, physical_mb
from certlip.base.record import Status
from certlip.methods import Bound, Member, check_options, is_planned, is_portfolio, option_names
from certlip.network import LINEAR, Network
from certlip.partition.calibration import Calibration
from certlip.partition.plan import Plan
from certlip.partition.predict import predict
from certlip.solving.blocks import make_plan
from certlip.solving.evaluate import Subject, evaluate
from certlip.solving.outcome import Means, bound_by, solve_plan

TINY = 10**5
"""Entries of all matrices of a network up to which its programs take less time than their prediction."""
FINISHED_GAP = 0.01
"""A member came to its end if nothing cut it short and no more than this, relative, could be gained by its solver."""
LEAST_SHARE = 0.01
"""Of the budget: with less time left nothing is begun."""
MERGING_SHARE = 0.05
"""Of a member's time: kept for making a bound of its programs."""

NOT_TRIED = "not_tried"
"""Status of a member that was left out."""


def bound_of(subject: Subject, method: ModuleType, options: Mapping[str, Any], means: Means) -> Bound:
    """The bound of any method; raises NoBound where it gives none.

    Where a person interrupts a portfolio that has a bound, Interrupted is raised with it.
    """
    if not is_portfolio(method):
        return bound_by(subject, method, options, means)
    network = subject.network()
    return _Portfolio(subject, network, options, means).best_of(method.members(network, **options))


class _Portfolio:
    """The members of a network's portfolio as they are tried.

    tried: a row each, for the record; found: their bounds by name; finished: names of those that came to their end.
    """

    def __init__(self, subject: Subject, network: Network, options: Mapping[str, Any], means: Means) -> None:
        self.subject, self.network, self.means = subject, network, means
        self.budget = min(options["budget"], means.limit.max_seconds or math.inf)
        self.allowed_mb = means.limit.max_memory_mb or physical_mb()
        self.is_tiny = _n_entries(network) <= TINY
        self.calibration = Calibration(solver=options["solver"])
        if not self.is_tiny:
            self.calibration = means.calibration(options["solver"])
        self.deadline = Deadline.after(self.budget)
        self.tried: list[dict[str, Any]] = []
        self.found: dict[str, Bound] = {}
        self.finished: set[str] = set()
        self.refusals: list[NoBound] = []

    def best_of(self, members: Sequence[Member]) -> Bound:
        """The smallest of their bounds; raises the first refusal where there is none."""
        waiting = list(members)
        try:
            while waiting:
                member = waiting.pop(self._next(waiting))
                if why := self._needless(member):
                    self._write_down(member, status=NOT_TRIED, reason=why)
                else:
                    with progress.stage(member.name, seconds=self._allowed_seconds(member)):
                        self._try(member)
            self._once_more(members)
        except KeyboardInterrupt:
            if not self.found:
                raise
            raise Interrupted(self._best("interrupted")) from None
        if not self.found:
            raise self.refusals[0]
        return self._best()

    def _next(self, waiting: Sequence[Member]) -> int:
        """The first that waits, or the one that makes it needless, if that is predicted to take no longer."""
        first = waiting[0]
        for index, member in enumerate(waiting):
            if member.name == first.unless and self._predicted_seconds(member) <= self._allowed_seconds(first):
                return index
        return 0

    def _needless(self, member: Member) -> str:
        """Why a member is left out, if it is."""
        if member.unless in self.finished:
            return f"{member.unless} gives no larger value"
        used_up = bool(self.refusals or self.found) and self.deadline.left < LEAST_SHARE * self.budget
        return f"the budget of {self.budget:g} s was used up" if used_up else ""

    def _try(self, member: Member) -> None:
        begin = time.perf_counter()
        try:
            bound = self._bound(member)
        except NoBound as refusal:
            self.refusals.append(refusal)
            seconds = time.perf_counter() - begin
            self._write_down(member, status=refusal.status, reason=str(refusal), seconds=seconds)
            return
        self.found[member.name] = bound
        progress.told(bound.value)
        gap = bound.details.get("gap")
        if not bound.reason and gap is not None and gap <= FINISHED_GAP:
            self.finished.add(member.name)
        known = {"seconds": bound.details["seconds"], "peak_mb": bound.details.get("peak_mb")}
        self._write_down(member, status=Status.OK, value=bound.value, reason=bound.reason, **known)

    def _once_more(self, members: Sequence[Member]) -> None:
        """The winner, where its share of the budget cut it short and more is left now."""
        for member in members:
            is_best = bool(self.found) and member.name == self._winner and not is_planned(member.method)
            if is_best and self.found[member.name].reason and self.deadline.left > member.share * self.budget:
                first = self.found[member.name]
                with progress.stage(f"{member.name} once more", seconds=self.deadline.left):
                    self._try(replace(member, share=1.0))
                self.found[member.name] = min(first, self.found[member.name], key=lambda bound: bound.value)

    @property
    def _winner(self) -> str:
        return min(self.found, key=lambda name: self.found[name].value)

    def _bound(self, member: Member) -> Bound:
        """What a member gives in its time; raises NoBound where it gives nothing, or is predicted not to keep it."""
        seconds = self._allowed_seconds(member)
        if not is_planned(member.method):
            options = self._options(member, seconds)
            return evaluate(self.subject, member.method, options, self._limit(seconds), self.means.seed)
        plan = self._plan(member, seconds)
        self._check(plan, seconds)
        if self.is_tiny and self.means.limit == Limits(self.means.limit.threads):
            return solve_plan(self.network, plan, self.means)
        means = replace(self.means, limit=replace(self.means.limit, max_memory_mb=self.allowed_mb))
        return solve_plan(self.network, plan, means, Deadline.after((1 - MERGING_SHARE) * seconds))

    def _allowed_seconds(self, member: Member) -> float:
        return max(min(member.share * self.budget, self.deadline.left), 0.0)

    def _limit(self, seconds: float) -> Limits:
        """Of a member in one piece; without limits a tiny one runs in this process."""
        limit = self.means.limit
        if self.is_tiny and limit == Limits(limit.threads):
            return limit
        return replace(limit, max_seconds=seconds, max_memory_mb=self.allowed_mb)

    def _options(self, member: Member, seconds: float) -> dict[str, Any]:
        """A member's options, complete: what it may take is filled in."""
        filled = {"budget": seconds, "cores": self.means.n_jobs}
        known = option_names(member.method)
        given = {**{name: value for name, value in filled.items() if name in known}, **member.options}
        return check_options(member.name, member.method, given)

    def _plan(self, member: Member, seconds: float) -> Plan:
        """A member's plan of programs that are predicted to keep its time; raises NoBound where it has none."""
        limits = {"max_seconds": seconds, "max_memory_mb": self.allowed_mb}
        calibration = self.calibration if self.is_tiny else self.calibration.model_copy(update=limits)
        plan = make_plan(lambda: self.network, member.method, self._options(member, seconds), lambda: calibration)
        if plan.refusal:
            raise plan.refusal.error()
        return plan

    def _check(self, plan: Plan, seconds: float) -> None:
        """Raise LimitExceeded where a plan is predicted not to keep its time, or the memory."""
        predicted = predict(self.network.chain, plan, self.calibration, self.means.n_jobs)
        if predicted.seconds > seconds:
            left = f"{predicted.seconds:.3g} s are predicted, {seconds:.3g} s are left for it"
            raise LimitExceeded("time_limit", left)
        needed = max((job.peak_mb for job in predicted.jobs), default=0.0)
        if needed > self.allowed_mb:
            reason = f"{needed:.0f} MB are predicted, {self.allowed_mb:.0f} MB are allowed"
            raise LimitExceeded("memory_limit", reason)

    def _predicted_seconds(self, member: Member) -> float:
        """Of a member made of programs that would keep the limits; infinite for any other."""
        if not is_planned(member.method):
            return math.inf
        try:
            plan = self._plan(member, self.budget)
            self._check(plan, self.deadline.left)
        except NoBound:
            return math.inf
        return predict(self.network.chain, plan, self.calibration, self.means.n_jobs).seconds

    def _write_down(self, member: Member, **outcome: Any) -> None:
        of_member = {"name": member.name, "method": _name(member.method), "options": dict(member.options)}
        self.tried.append({**of_member, "value": None, "seconds": 0.0, "peak_mb": None, "reason": "", **outcome})

    def _best(self, why: str = "") -> Bound:
        """The smallest bound there is; why: no more were tried."""
        winner = self._winner
        bound = self.found[winner]
        reasons = [why, bound.reason]
        peaks = [row["peak_mb"] for row in self.tried if row["peak_mb"] is not None]
        costs = {
            "seconds": math.fsum(row["seconds"] for row in self.tried),
            "calibration_seconds": self.calibration.seconds,
            "peak_mb": max(peaks, default=None),
        }
        details = {**bound.details, **costs, "winner": winner, "tried": self.tried}
        return replace(bound, reason="; ".join(filter(None, reasons)), details=details)


def _n_entries(network: Network) -> int:
    """Of all matrices of linear layers, written out."""
    pairs = [(shape, layer) for layer, shape in network.with_shapes if isinstance(layer, LINEAR)]
    return sum(math.prod(shape) * math.prod(layer.output_shape(shape)) for shape, layer in pairs)


def _name(method: ModuleType) -> str:
    return method.__name__.rpartition(".")[2]
