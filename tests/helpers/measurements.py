"""Rows such as benchmarks and the trade-off experiment make them, limits hit included; seeded, nothing is measured."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable

import pandas as pd

from certlip import predictions as prediction_rows
from certlip.base.record import Kind, Record, Status
from certlip.benchmarks import looseness as looseness_rows
from certlip.benchmarks import solvers as benchmark
from certlip.collect import collect
from certlip.layer_norms import _shapes
from certlip.schedule import TimedJob, simulate

# rival -> title, kind, ratio, seconds
RIVALS = {
    "certified": ("certlip", Kind.CERTIFIED, 1.0, 0.2),
    "fantastic_four": ("Fantastic Four", Kind.CERTIFIED, 2.1, 0.01),
    "gram": ("Gram iteration", Kind.CERTIFIED, 1.0003, 0.1),
    "power_iteration": ("Power iteration", Kind.ESTIMATE, 0.97, 0.3),
    "svd": ("SVD per frequency", Kind.ESTIMATE, 1 - 1e-15, 2.0),
    "toeplitz_grid": ("Toeplitz grid", Kind.CERTIFIED, 4.3, 5.0),
}

# solver -> title, seconds at order 100, exponent, largest order it masters, what stops it there
SOLVERS = {
    "clarabel": ("Clarabel", 30.0, 4.0, 150, Status.MEMORY_LIMIT),
    "cvxopt": ("CVXOPT", 1.0, 3.2, 500, Status.TIME_LIMIT),
    "dsdp": ("DSDP", 0.3, 2.8, math.inf, None),
    "mosek": ("MOSEK", 1.0, 3.0, 0, Status.SOLVER_FAILED),
    "scs": ("SCS", 20.0, 2.0, 250, Status.TIME_LIMIT),
    "sdpa": ("SDPA", 0.25, 3.0, 700, Status.TIME_LIMIT),
    "structured": ("structured (certlip)", 0.03, 2.4, math.inf, None),
}
ORDERS = {"chain-1x50": 100, "chain-3x30": 120, "conv-2": 228, "conv-4": 356, "chain-2x200": 600, "conv-13": 996}


def layer_norms(groups: Iterable[str] = _shapes.GROUPS, seed: int = 0) -> pd.DataFrame:
    """The frame of the benchmark `layer_norms`."""
    rng = random.Random(seed)
    rows = []
    for group in groups:
        for layer, shape in _shapes.GROUPS[group].items():
            norm = rng.uniform(1.5, 80)
            for method, (title, kind, tightness, seconds) in RIVALS.items():
                ratio = 1 + (tightness - 1) * rng.uniform(0.5, 1.5)
                rows.append(
                    {
                        "layer": layer,
                        "method": method,
                        "title": title,
                        "kind": str(kind),
                        "value": ratio * norm,
                        "norm": norm,
                        "ratio": ratio,
                        "seconds": seconds * shape.image / 20 * rng.uniform(0.5, 2),
                        "published": shape.published.get(method, math.nan),
                    }
                )
    columns = ["layer", "method", "title", "kind", "value", "norm", "ratio", "seconds", "published"]
    return pd.DataFrame(rows, columns=columns)


def solvers(orders: dict[str, int] = ORDERS, threads: Iterable[int] = (1,), seed: int = 0) -> pd.DataFrame:
    """The frame of the benchmark `solvers`, by problem name and order; MOSEK has no licence."""
    rng = random.Random(seed)
    rows = []
    for problem, order in orders.items():
        for n_threads in threads:
            for solver, (title, seconds, exponent, largest, failure) in SOLVERS.items():
                common = {"problem": problem, "order": order, "threads": n_threads, "solver": solver, "title": title}
                common["tried"] = True
                if order > largest:
                    rows.append({**common, "status": str(failure)})
                    continue
                costs = {
                    "certify_seconds": 0.001,
                    "seconds": seconds * (order / 100) ** exponent * rng.uniform(0.8, 1.25) / n_threads**0.5,
                    "peak_mb": 150 + order**2 / 1000,
                    "iterations": None if solver == "scs" else rng.randrange(12, 60),
                }
                proof = {"minimum_eigenvalue": rng.uniform(-1e-5, 1e-6), "slack": 1e-6}
                bound = 2.0 * (1 + rng.uniform(0, 1e-4))
                rows.append({**common, "status": "ok", "bound": bound, **costs, **proof})
    frame = pd.DataFrame(rows, columns=benchmark.COLUMNS)
    frame["distance"] = frame["bound"] / frame.groupby("problem")["bound"].transform("min") - 1
    return frame


def workers() -> pd.DataFrame:
    """The frame of the benchmark `workers`."""
    rows = [(1, 9, 1577, 20.4, 1.0), (2, 9, 1577, 11.1, 1.84)]
    return pd.DataFrame(rows, columns=["n_workers", "n_programs", "order", "seconds", "speedup"])


def predictions(n_programs: int = 12, seed: int = 0) -> pd.DataFrame:
    """The frame of `certlip.predictions.collect`; a limit ended the last program of several."""
    rng = random.Random(seed)
    rows = []
    for number in range(n_programs):
        order, shape = int(200 * 1.5**number), ("alone", "joint", "chained")[number % 3]
        common = {"network": f"n{number}", "method": "dcp-auto", "job": "segment 1, jointly", "shape": shape}
        solver = "structured" if shape == "alone" else "folded"
        sizes = {"n_programs": 1, "order": order, "n_weights": order**2 // 4, "solver": solver, "status": "ok"}
        seconds, mb = 1e-8 * order**2.4, 300 + order**2 / 5e4
        took = {"seconds": seconds * rng.uniform(0.6, 1.9), "peak_mb": mb * rng.uniform(0.7, 1.1)}
        cut_short = 0 < number == n_programs - 1
        rows.append(
            {**common, **sizes, "cut_short": cut_short, "predicted_seconds": seconds, "predicted_mb": mb, **took}
        )
    return pd.DataFrame(rows, columns=prediction_rows.COLUMNS)


def looseness() -> pd.DataFrame:
    """The frame of the benchmark `looseness`: one network whose plans are ranked rightly, one the other way round."""
    rows = []
    for network, sign in (("right", 1), ("reversed", -1)):
        for number in range(5):
            actual = 0.1 * number
            common = {
                "network": network,
                "merge": "folded",
                "grid": f"{number}x{number}",
                "value": 10 * math.exp(actual),
            }
            predicted = 0.5 + sign * 0.2 * number
            rows.append(
                {**common, "actual": actual, "predicted": predicted, "refitted": actual, "doubling_folded": 0.04}
            )
    return pd.DataFrame(rows, columns=looseness_rows.COLUMNS)


def schedule(n_jobs: int = 60, seed: int = 0) -> pd.DataFrame:
    """The frame of `certlip.schedule.simulate`: chains of three jobs of one thread, and one job of all cores."""
    rng = random.Random(seed)
    jobs = [TimedJob("calibrate_solver auto", 1000, 5.0)]
    for number in range(1, n_jobs):
        needs = () if number % 3 == 1 else (number - 1,)
        jobs.append(TimedJob(f"bound_network n{number} dcp", 1, rng.uniform(1, 20), needs=needs))
    return simulate(jobs, 0.012)


def gram_speed(speedups: Iterable[float]) -> pd.DataFrame:
    """The frame of the benchmark `gram_speed`."""
    return pd.DataFrame(
        [
            {"layer": f"conv{i}", "seconds": 0.5, "naive_seconds": 0.5 * s, "speedup": s, "value": 1, "naive_value": 1}
            for i, s in enumerate(speedups)
        ],
        columns=["layer", "seconds", "naive_seconds", "speedup", "value", "naive_value"],
    )


def tradeoff(
    networks: Iterable[str] = ("deep-64x64",),
    sides: Iterable[int] = (1, 2, 3, 4, 5, 6, 10, 12),
    merges: Iterable[str] = ("sum", "cover", "weighted", "folded"),
) -> pd.DataFrame:
    """The frame of `collect`: one method a grid and merge beside two that cut nothing; the single patch runs out."""
    records = [
        Record(network=network, method=method, kind=kind, value=value)
        for network in networks
        for method, kind, value in (("product", Kind.CERTIFIED, 90.0), ("lower", Kind.LOWER, 9.0))
    ]
    growth = {"sum": 1.0, "cover": 0.6, "weighted": 0.4, "folded": 0.2}
    for network in networks:
        for side in sides:
            for merge in merges:
                outcome = (
                    {"status": Status.TIME_LIMIT, "reason": "too large"}
                    if side == 1 and merge != "folded"
                    else {"value": 20.0 * side ** growth[merge], "seconds": 400.0 / side ** (1 + growth[merge])}
                )
                options = {"grid": [side, side], "merge": merge, "rtol": 1e-4}
                name = {"network": network, "method": f"dcp-{side}x{side}-{merge}", "options": options}
                records.append(Record(**name, kind=Kind.CERTIFIED, **outcome))
    return collect(records, {network: {"experiment": "tradeoff", "x": 1} for network in networks})
