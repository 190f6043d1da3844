"""How well the search ranks plans: what each plan of a network is predicted to lose, and what it loses.

The last columns refit the losses of `certlip.partition.predict` to these rows, for whoever wants to change them there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from certlip.base.errors import UnsupportedLayer
from certlip.base.limits import Limits
from certlip.methods import Bound
from certlip.network import Activation, Array, Conv, Network
from certlip.partition.merges import RULES, SUM
from certlip.partition.plan import Plan
from certlip.partition.predict import LOSSES, Losses, looseness
from certlip.partition.segment import find_cuts, make_segment
from certlip.solving.blocks import merge_plan, solve_blocks

if TYPE_CHECKING:
    import pandas as pd

MERGES = tuple(RULES)
COLUMNS = ["network", "merge", "grid", "n_segments", "chain", "value", "seconds", "actual", "predicted", "refitted"]
COLUMNS += [f"{name}_{merge}" for name in ("grid", "doubling", "overlap") for merge in MERGES] + ["cut", "chained_cut"]


def run(
    *,
    networks: list[str] = [],  # noqa: B006
    sides: list[int] = [1, 2, 3, 4, 6],  # noqa: B006
    merges: list[str] = list(MERGES),  # noqa: B006
    n_convolutions: list[int] = [0, 2],  # noqa: B006
    depths: list[int] = [3, 4],  # noqa: B006
    max_seconds: float = 60.0,
    max_memory_mb: float = 8000.0,
    seed: int = 0,
) -> pd.DataFrame:
    """A row a network and plan: product, the whole in one program, every grid and merge, folded ones also chained.

    networks: files; none stands for random blocks of so many (depths) 3x3 convolutions on 16x16; n_convolutions: in a
    segment, 0 for all. actual: logarithm of the value over that of the whole in one program, which a network without it
    lacks; predicted: by the search; refitted: by the losses in the last columns, fitted to all rows with an actual.
    """
    import pandas as pd

    limit = Limits(1, max_seconds, max_memory_mb)
    loaded = {Path(file).stem: Network.load(file).chain for file in networks}
    loaded = loaded or {f"block-{depth}": _block(depth, seed) for depth in depths}
    rows, plans = [], []
    for name, network in loaded.items():
        whole = _bound(network, _plan(network, 1, SUM.name, 0, alone=True), limit)
        for plan in dict.fromkeys(_plans(network, sides, merges, n_convolutions)):
            if (bound := _bound(network, plan, limit)) is None:
                continue
            plans.append((network, plan))
            actual = math.log(bound.value / whole.value) if whole else math.nan
            found = {"value": bound.value, "seconds": bound.details["seconds"], "actual": actual}
            rows.append({"network": name, **_described(plan), **found})
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["predicted"] = [looseness(*pair) for pair in plans]
    fitted = fit(plans, frame["actual"].to_numpy(dtype=float))
    frame["refitted"] = [looseness(*pair, fitted) for pair in plans]
    for merge in MERGES:
        for name in ("grid", "doubling", "overlap"):
            frame[f"{name}_{merge}"] = getattr(fitted, name)[merge]
    return frame.assign(cut=fitted.cut, chained_cut=fitted.chained_cut)


def fit(plans: Sequence[tuple[Network, Plan]], actual: Array) -> Losses:
    """Least squares, no loss negative, drawn a little towards `LOSSES` so that what no plan tells stays as it is."""
    from scipy.optimize import least_squares

    known = [(pair, value) for pair, value in zip(plans, actual, strict=True) if math.isfinite(value)]
    begin = _to_array(LOSSES)

    def residuals(x: Array) -> Array:
        losses = _from_array(x)
        errors = [looseness(*pair, losses) - value for pair, value in known]
        return np.array([*errors, *(0.1 * (x - begin))])

    return _from_array(least_squares(residuals, begin, bounds=(0.0, np.inf)).x)


def _to_array(losses: Losses) -> Array:
    by_merge = [of[m] for of in (losses.grid, losses.doubling, losses.overlap) for m in MERGES]
    return np.array([losses.cut, losses.chained_cut, *by_merge]) + 1e-9


def _from_array(x: Array) -> Losses:
    cut, chained_cut, *by_merge = map(float, x)
    starts = range(0, len(by_merge), len(MERGES))
    return Losses(cut, chained_cut, *(dict(zip(MERGES, by_merge[i:], strict=False)) for i in starts))


def _plans(
    network: Network, sides: Sequence[int], merges: Sequence[str], n_convolutions: Sequence[int]
) -> Iterator[Plan]:
    yield _plan(network, 1, SUM.name, 0, alone=True)
    product = _plan(network, 1, SUM.name, 0)
    yield product.model_copy(update={"segments": tuple(s.model_copy(update={"blocks": ()}) for s in product.segments)})
    for n in n_convolutions:
        for side in sides:
            for merge in merges:
                for chain in [False, True] if RULES[merge].joint else [False]:
                    try:
                        plan = _plan(network, side, merge, n, chain=chain)
                    except UnsupportedLayer:
                        continue
                    if plan.jobs and bool(plan.chains) == chain:
                        yield plan


def _plan(
    network: Network, side: int, merge: str, n_convolutions: int, chain: bool = False, alone: bool = False
) -> Plan:
    """Every convolutional segment cut by the grid; alone: one program for the whole network."""
    convolutions = [i for i, layer in enumerate(network.layers) if isinstance(layer, Conv)]
    ends = {0, len(network.layers)} if alone else set(find_cuts(network, None))
    if n_convolutions:
        ends |= set(convolutions[n_convolutions::n_convolutions])
    grid = (side, side)
    spans = pairwise(sorted(ends))
    segments = tuple(make_segment(network, first, last, grid, merge, chain) for first, last in spans)
    return Plan(segments=segments, merge=merge, chain=chain)


def _bound(network: Network, plan: Plan, limit: Limits) -> Bound | None:
    """By the plan; none where a limit cut a program short: that is no property of the plan."""
    solved = solve_blocks(network, plan, limit=limit)
    if any(s.rho is None or s.reason for s in solved):
        return None
    return merge_plan(network, plan, solved)


def _described(plan: Plan) -> dict[str, Any]:
    grids = dict.fromkeys("x".join(map(str, s.grid)) for s in plan.segments if s.blocks)
    common = {"n_segments": len(plan.segments), "chain": plan.chain}
    return {"merge": plan.merge if grids else "product", "grid": " ".join(grids) or "none", **common}


def _block(depth: int, seed: int) -> Network:
    rng = np.random.default_rng(seed)
    layers: list[Any] = []
    for index in range(depth):
        weight = rng.standard_normal((2, 2 if index else 1, 3, 3)) * math.sqrt(2 / (18 if index else 9))
        layers += [Conv(f"conv{index}", weight, np.zeros(2)), Activation(f"relu{index}", "relu")]
    return Network(tuple(layers[:-1]), (1, 16, 16))
