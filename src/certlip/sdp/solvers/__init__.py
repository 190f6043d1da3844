"""Solver adapters, one file each. A solver only proposes multipliers; `certlip.proof.certify` decides.

An adapter defines

    INFO = SolverInfo(...)
    def unavailable() -> str | None            why it cannot run here, None if it can; imports what `solve` needs
    def memory_mb(lmi) -> float                predicted peak memory of `solve`
    def solve(lmi, *, rtol, threads, max_seconds) -> Proposal

and gets an `Lmi` without metrics, whose layers have norms near one (`certlip.sdp.solve` sees to that). With
``anytime=True`` in its INFO `solve` also takes ``report``, a function that it calls, as often as it likes, with a
function that gives the best `Proposal` so far.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Annotated, Literal

from pydantic import AfterValidator

from certlip.base import plugins
from certlip.base.errors import SolverUnavailable
from certlip.base.limits import load_scipy
from certlip.proof.lmi import Multipliers


@dataclass(frozen=True)
class SolverInfo:
    """What an adapter says of its solver.

    title: as printed; preference: ``auto`` takes the available solver with the smallest,
    of those whose max_order admits the problem; version: of the installed package, asked for only when it ran; anytime:
    whether it reports what it has so far.
    """

    title: str
    preference: int
    max_order: int
    version: Callable[[], str]
    anytime: bool = False


@dataclass(frozen=True, eq=False)
class Proposal:
    """What a solver returns.

    multipliers: T_1..T_L, feasible or not; iterations: None where the solver does not say; message: its own last word;
    status: ``ok`` or ``time_limit`` (stopped early, the multipliers are the best so far); rho: the solver's own
    objective, never a bound: the benchmark of solvers shows how far from feasible it is; lower: the solver's own dual
    bound on rho, not verified.
    """

    multipliers: Multipliers
    iterations: int | None = None
    message: str = ""
    status: Literal["ok", "time_limit"] = "ok"
    rho: float | None = None
    lower: float | None = None


def names() -> list[str]:
    """Names of all adapters, available or not."""
    return plugins.names(__name__)


def modules(name: str) -> list[str]:
    """Import path of an adapter, or of each that ``auto`` may take."""
    return [f"{__name__}.{adapter}" for adapter in (names() if name == "auto" else [name])]


def _known(name: str) -> str:
    if name != "auto" and name not in names():
        raise ValueError(f"should be one of {', '.join(['auto', *names()])}")
    return name


SolverName = Annotated[str, AfterValidator(_known)]
"""Type of a method's option ``solver``: ``auto`` or an adapter, installed or not."""


def load(name: str) -> ModuleType:
    """The adapter module; an unknown name is a ConfigError."""
    return plugins.load(__name__, name)


def choose(name: str, order: int) -> tuple[str, ModuleType]:
    """The adapter called `name`, or for ``auto`` the preferred one that can run here and admits the order.

    All that solving takes is imported then. Raises SolverUnavailable with the reason.
    """
    load_scipy()
    if name != "auto":
        adapter = load(name)
        if reason := adapter.unavailable():
            raise SolverUnavailable(f"solver {name}: {reason}")
        return name, adapter
    ranked = sorted((load(n).INFO.preference, n) for n in names())
    for _, candidate in ranked:
        adapter = load(candidate)
        if order <= adapter.INFO.max_order and adapter.unavailable() is None:
            return candidate, adapter
    raise SolverUnavailable(f"no installed solver takes a semidefinite program of order {order}; use a finer grid")
