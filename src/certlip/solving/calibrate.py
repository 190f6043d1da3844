"""Measuring what this machine can solve: a few moderate semidefinite programs of the kind that partitions are made of.

The paper finds its largest order N_max the same way and leaves the cost out of its times; here it is counted.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from certlip.base.errors import NoBound
from certlip.base.limits import Limits, physical_mb
from certlip.base.progress import stage
from certlip.base.provenance import provenance
from certlip.base.record import Status
from certlip.network import Activation, Array, Conv, Dense, Flatten, Layer, Network
from certlip.partition.calibration import Calibration, Law
from certlip.partition.merges import FOLDED, SUM
from certlip.partition.plan import Plan
from certlip.partition.segment import make_segment
from certlip.sdp import Lmi, solvers
from certlip.solving.blocks import solve_blocks


class Case(NamedTuple):
    """A network of 3x3 convolutions on square images and, for classes, a dense layer; patches: along a side of its map,
    solved jointly where there are more than one."""

    n_convolutions: int
    channels: int
    side: int
    n_classes: int = 0
    patches: int = 1


ALONE = (Case(2, 1, 8), Case(2, 2, 16), Case(6, 2, 16), Case(2, 14, 10), Case(3, 5, 20, 10))
"""3,000 to 4 million weights: the smallest tells what a program costs whatever its size."""
JOINT = (
    *(Case(2, 2, 16, 0, 3), Case(3, 2, 16, 0, 3), Case(4, 2, 16, 0, 2), Case(6, 2, 16, 0, 3), Case(2, 14, 10, 0, 2)),
    Case(3, 5, 20, 0, 2),
)
"""0.1 to 3 million weights in all patches."""
ENOUGH_SECONDS = 3.0
"""No larger program is tried after one that took longer."""
REPEATED_SECONDS = 1.0
"""A program is solved again for so long, and the least time counts: whatever else runs only makes it longer."""
LANES = 2
"""Programs solved side by side where there are the cores: in a run they share the memory's bandwidth as well."""
EXPONENT = 1.1
"""Of the entries: of 77 programs of 34 networks nine in ten took between half and twice what a law with it says. It
lies between those of products with them, 1, and of factorisations, 1.5; five points with noise do not tell it."""
REAL = 1.6
"""How much longer programs of trained or deep networks take than the random ones measured here, of the same size."""


def calibrate(solver: str = "auto", limit: Limits | None = None) -> Calibration:
    """Solve them, fit the laws; a solver that cannot run here makes a calibration that says why."""
    limit = limit or Limits()
    begin = time.perf_counter()
    known: dict[str, Any] = {
        "solver": solver,
        "threads": limit.threads,
        "max_seconds": limit.max_seconds,
        "max_memory_mb": limit.max_memory_mb,
        **machine(solver),
        "started_at": provenance()["started_at"],
    }
    try:
        with stage("calibrating this machine, once", len(ALONE) + len(JOINT)) as advance:
            alone, starts = _points(ALONE, solver, limit, advance)
            joint, more = _points(JOINT, solver, limit, advance)
        law = fit(alone, REAL)
        measured: dict[str, Any] = {
            "alone": law,
            "joint": fit(joint),
            "start_seconds": float(np.median(starts + more)),
            "n_max": largest_order(solver, law, limit),
        }
    except NoBound as error:
        measured = {"refusal": error.refusal}
    return Calibration(**known, **measured, seconds=time.perf_counter() - begin)


def load_or_calibrate(solver: str, limit: Limits, folder: str | Path | None = None) -> Calibration:
    """The calibration of this machine, solver, limits and code, from the folder (by default the user's cache) if it is
    there, else measured and kept there."""
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "certlip"
    key = json.dumps([machine(solver), limit.threads, limit.max_seconds, limit.max_memory_mb], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:16]
    path = Path(folder or default) / "calibration" / f"{solver}-{digest}.json"
    if path.exists():
        return Calibration.load(path)
    calibration = calibrate(solver, limit)
    calibration.save(path)
    return calibration


def machine(solver: str) -> dict[str, Any]:
    """Fields of a `Calibration` that say whose times these are."""
    here = provenance(__name__, *solvers.modules(solver))
    return {"cpu": _cpu(), **{name: here[name] for name in ("host", "code", "versions")}}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _network(case: Case) -> Network:
    """With Kaiming-normal weights, as in the paper's sweeps."""
    n_convolutions, channels, side, n_classes, _ = case
    rng = np.random.default_rng(0)
    layers: list[Layer] = []
    for index in range(n_convolutions):
        n_in = channels if index else 1
        weight = rng.standard_normal((channels, n_in, 3, 3)) * math.sqrt(2 / (9 * n_in))
        layers += [Conv(f"conv{index}", weight, np.zeros(channels)), Activation(f"relu{index}", "relu")]
    if not n_classes:
        return Network(tuple(layers[:-1]), (1, side, side))
    n_in = channels * (side - 2 * n_convolutions) ** 2
    last = rng.standard_normal((n_classes, n_in)) * math.sqrt(2 / n_in)
    return Network((*layers, Flatten("flatten"), Dense("dense", last, np.zeros(n_classes))), (1, side, side))


def _points(
    cases: Sequence[Case], solver: str, limit: Limits, advance: Callable[[], None]
) -> tuple[list[tuple[int, float]], list[float]]:
    """(n_weights, seconds) of a program, or on average of the blocks of a joint one, each with others beside it; and
    how long processes took to start."""
    n_lanes = max(1, min(LANES, (os.cpu_count() or 1) // limit.threads))
    points, starts = [], []
    for case in cases:
        advance()
        network = _network(case)
        merge = (SUM if case.patches == 1 else FOLDED).name
        segment = make_segment(network, 0, len(network.layers), (case.patches, case.patches), merge)
        plan = Plan(segments=(segment,), merge=merge, fallback=False, solver=solver)
        seconds, spent, over = math.inf, 0.0, False
        while not over and spent < REPEATED_SECONDS:
            begin = time.perf_counter()
            solved = solve_blocks(network, plan, plan.jobs * n_lanes, limit=limit, n_jobs=n_lanes)
            wall = time.perf_counter() - begin
            if (refusal := solved[0].refusal) and refusal.status == Status.SOLVER_FAILED:
                raise refusal.error()
            over = any(block.status != Status.OK for block in solved)
            took = wall if over else math.fsum(block.seconds for block in solved) / n_lanes
            starts.append(max(wall - took, 0.0))
            seconds, spent = min(seconds, took), spent + wall
        n_blocks = len(segment.blocks)
        points.append((sum(block.n_weights for block in segment.blocks) // n_blocks, seconds / n_blocks))
        if over or seconds > ENOUGH_SECONDS:
            break
    return points, starts


def fit(points: Sequence[tuple[int, float]], longer: float = 1.0) -> Law:
    """Least squares between the logarithms of measured and predicted seconds.

    longer: how much longer programs take than those measured, but for what they cost whatever their size.
    """
    from scipy.optimize import least_squares

    sizes, seconds = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    powers = sizes**EXPONENT
    # in units of the smallest time and of the law through the largest point
    base, factor = float(seconds.min()), float((seconds / powers).max())

    def law(x: Array) -> Array:
        return base * np.exp(x[0]) + factor * np.exp(x[1]) * powers

    fitted = least_squares(lambda x: np.log(law(x) / seconds), np.zeros(2), bounds=(-9.0, 9.0)).x
    base, factor = base * math.exp(fitted[0]), longer * factor * math.exp(fitted[1])
    return Law(base=base, factor=factor, exponent=EXPONENT, points=tuple(points))


def largest_order(solver: str, law: Law, limit: Limits) -> int:
    """Of a program with as many hidden neurons as inputs, within the limits by the law and by what the solver says of
    its memory; without a limit, what this machine has."""
    allowed = limit.max_memory_mb or physical_mb()

    def fits(order: int) -> bool:
        n_weights = (order // 2) ** 2
        if limit.max_seconds is not None and law.seconds([n_weights]) > limit.max_seconds:
            return False
        try:
            _, adapter = solvers.choose(solver, order)
        except NoBound:
            return False
        half = np.broadcast_to(0.0, (order // 2, order // 2))
        return order <= adapter.INFO.max_order and adapter.memory_mb(Lmi((half, half), ((0.0, 1.0),))) <= allowed

    low, high = 0, 2**17
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low
