"""What comes of one method and one network: of a plan's programs, or of one piece of work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from certlip.base.deadline import Deadline
from certlip.base.limits import Limits
from certlip.methods import Bound, is_planned
from certlip.network import Network
from certlip.partition.calibration import Calibration
from certlip.partition.plan import Plan
from certlip.solving import blocks
from certlip.solving.calibrate import load_or_calibrate
from certlip.solving.evaluate import Subject, evaluate


@dataclass(frozen=True)
class Means:
    """What a method may use.

    limit: of one piece of work, or of each semidefinite program; n_jobs: programs solved side by side; cache: folder of
    solved programs; measured: the calibration of a solver on this machine, None for that of `load_or_calibrate`.
    """

    limit: Limits = field(default_factory=Limits)
    seed: int = 0
    n_jobs: int = 1
    cache: str | Path | None = None
    measured: Callable[[str], Calibration] | None = None

    def calibration(self, solver: str) -> Calibration:
        """Of this machine: measured at the first call that needs one."""
        return self.measured(solver) if self.measured else load_or_calibrate(solver, self.limit, self.cache)


def bound_by(subject: Subject, method: ModuleType, options: Mapping[str, Any], means: Means) -> Bound:
    """The bound of a method that is no portfolio; raises NoBound where it gives none."""
    if not is_planned(method):
        return evaluate(subject, method, options, means.limit, means.seed)
    network = subject.network()
    calibration = partial(means.calibration, options.get("solver", "auto"))
    return solve_plan(network, blocks.make_plan(lambda: network, method, options, calibration), means)


def solve_plan(network: Network, plan: Plan, means: Means, until: Deadline = Deadline()) -> Bound:  # noqa: B008, frozen
    """The bound that a plan's programs prove; until: when the last one has to end, whatever each may take."""
    solved = blocks.solve_blocks(network, plan, limit=means.limit, n_jobs=means.n_jobs, cache=means.cache, until=until)
    allowed = (blocks.TORUS_SECONDS, means.limit.max_seconds, until.max_seconds)
    return blocks.merge_plan(network, plan, solved, min(seconds for seconds in allowed if seconds is not None))
