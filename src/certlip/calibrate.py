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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from certlip.blocks import solve_blocks
from certlip.errors import NoBound
from certlip.limits import Limits
from certlip.network import Activation, Conv, Dense, Flatten, Layer, Network
from certlip.partition.calibration import Calibration, Law
from certlip.partition.plan import Merge, Plan
from certlip.partition.segment import make_segment
from certlip.provenance import provenance
from certlip.record import Status
from certlip.sdp import Lmi, solvers

ALONE = ((4, 14, 0), (5, 16, 0), (7, 18, 0), (6, 24, 0), (4, 32, 10))
"""Channels, image side and classes of the networks solved as one program: dense orders 923, 1551, 2730, 4639, 5939."""
JOINT = ((4, 16, 0), (5, 20, 0), (5, 32, 0))
"""The same, solved in 2 x 2 patches jointly: dense orders 393, 751 and 2042 each."""
ENOUGH_SECONDS = 3.0
"""No larger program is tried after one that took longer."""
LANES = 2
"""Programs solved side by side where there are the cores: in a run they share the memory's bandwidth as well."""
EXPONENTS = (2.0, 3.0)
"""Of sparse products and of factorisations: a law is between them, whatever the noise of the machine says."""


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
        alone, starts = _points(ALONE, "sum", solver, limit)
        joint, more = _points(JOINT, "folded", solver, limit)
        law = _fit(alone)
        measured: dict[str, Any] = {
            "alone": law,
            "joint": _fit(joint),
            "start_seconds": float(np.median(starts + more)),
            "n_max": largest_order(solver, law, limit),
        }
    except NoBound as error:
        measured = {"failure": str(error)}
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
    modules = [f"{solvers.__name__}.{name}" for name in (solvers.names() if solver == "auto" else [solver])]
    here = provenance(__name__, *modules)
    return {"cpu": _cpu(), **{name: here[name] for name in ("host", "code", "versions")}}


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def _network(channels: int, side: int, n_classes: int) -> Network:
    """Two 3x3 convolutions with Kaiming-normal weights, as in the paper's width sweep; for classes a dense layer."""
    rng = np.random.default_rng(0)
    first = rng.standard_normal((channels, 1, 3, 3)) * math.sqrt(2 / 9)
    second = rng.standard_normal((channels, channels, 3, 3)) * math.sqrt(2 / (9 * channels))
    bias = np.zeros(channels)
    layers: list[Layer] = [Conv("conv1", first, bias), Activation("relu1", "relu"), Conv("conv2", second, bias)]
    if n_classes:
        n_in = channels * (side - 4) ** 2
        last = rng.standard_normal((n_classes, n_in)) * math.sqrt(2 / n_in)
        layers += [Activation("relu2", "relu"), Flatten("flatten"), Dense("dense", last, np.zeros(n_classes))]
    return Network(tuple(layers), (1, side, side))


def _points(
    sizes: Sequence[tuple[int, int, int]], merge: Merge, solver: str, limit: Limits
) -> tuple[list[tuple[int, float]], list[float]]:
    """(order, seconds) of a program, or of a block of a joint one, each with others beside it; and how long processes
    took to start."""
    n_lanes = max(1, min(LANES, (os.cpu_count() or 1) // limit.threads))
    points, starts = [], []
    for size in sizes:
        network = _network(*size)
        grid = (1, 1) if merge == "sum" else (2, 2)
        segment = make_segment(network, 0, len(network.layers), grid, merge)
        plan = Plan(segments=(segment,), merge=merge, fallback=False, solver=solver)
        begin = time.perf_counter()
        solved = solve_blocks(network, plan, plan.jobs * n_lanes, limit=limit, n_jobs=n_lanes)
        wall = time.perf_counter() - begin
        if solved[0].status == Status.SOLVER_FAILED:
            raise NoBound(solved[0].reason)
        over = any(block.status != Status.OK for block in solved)
        seconds = wall if over else math.fsum(block.seconds for block in solved) / n_lanes
        points.append((segment.blocks[0].dense_order, seconds / len(segment.blocks)))
        starts.append(max(wall - seconds, 0.0))
        if over or seconds > ENOUGH_SECONDS:
            break
    return points, starts


def _fit(points: Sequence[tuple[int, float]]) -> Law:
    """Least squares between the logarithms."""
    orders, seconds = (np.log(column) for column in zip(*points, strict=True))
    slope = float(np.polyfit(orders, seconds, 1)[0]) if len(points) > 1 else EXPONENTS[1]
    exponent = min(max(slope, EXPONENTS[0]), EXPONENTS[1])
    factor = math.exp(float(np.mean(seconds - exponent * orders)))
    return Law(factor=factor, exponent=exponent, points=tuple(points))


def largest_order(solver: str, law: Law, limit: Limits) -> int:
    """Within the limits by the law and by what the solver says of its memory; without one, what this machine has."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    allowed = limit.max_memory_mb or physical

    def fits(order: int) -> bool:
        if limit.max_seconds is not None and law.seconds([order]) > limit.max_seconds:
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
