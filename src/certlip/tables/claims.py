"""The claims of Sulehman & Mu 2024 (arXiv 2403.18613), and ours, each beside what this run measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from certlip.base.record import Kind, Status
from certlip.tables import TableInfo, _cells
from certlip.tables.tradeoff import partitioned

if TYPE_CHECKING:
    import pandas as pd

INFO = TableInfo(
    title="Claims",
    caption="What the paper claims of its method (DCP with merge sum, here of 2x2 patches), and what we claim, "
    "each beside the measurement of this run. Times are seconds of one core, programs counted one after the other.",
)

NAIVE, WHOLE, SUM, COVER, FOLDED = "product", "lipsdp", "sum", "cover", "folded"
"""Column ``role`` of the rows compared: two methods, and DCP of 2x2 patches by its merge, whatever it is called."""
CNN1, CNN2 = "mnist-cnn1-c5", ("cifar10-cnn2", "cifar10-jpeg-cnn2")
Finding = tuple[str, str]
"""Measured, Holds."""
Frame = Any
"""A frame or a column of one: what its cells are, no type checker knows."""


def make(bounds: pd.DataFrame) -> pd.DataFrame:
    """Columns By, Claim, Measured, Holds."""
    if bounds.empty:
        return _cells.frame([], columns=_COLUMNS)
    # a row that a limit left to something else than its program names no solver
    solved = (bounds["status"] == Status.OK) & bounds["solver"].notna()
    rows = bounds.assign(role=list(map(_role, bounds["method"], bounds["options"])), solved=solved)
    cells = [[by, claim, *finding(rows)] for by, claim, finding in CLAIMS]
    return _cells.frame(cells, columns=_COLUMNS)


_COLUMNS = ["By", "Claim", "Measured", "Holds"]


def _role(method: str, options: str) -> str:
    given = json.loads(options)
    plain = {"grid": [2, 2], "cuts": None, "chain": False, "fallback": True}
    return given["merge"] if "merge" in given and plain.items() <= given.items() else method


def _between(bounds: Frame, experiment: str) -> Finding:
    values = _values(bounds[bounds["experiment"] == experiment], [WHOLE, SUM, NAIVE])
    if values.empty:
        return _unmeasured(bounds[bounds["experiment"] == experiment])
    between = (values[WHOLE] <= values[SUM]) & (values[SUM] <= values[NAIVE])
    strictly = (values[SUM] < values[NAIVE] * (1 - 1e-6)).sum()
    measured = (
        f"DCP / naive {_range(values[SUM] / values[NAIVE])}, LipSDP / naive {_range(values[WHOLE] / values[NAIVE])}; "
        f"DCP below naive by more than rounding on {strictly} of {len(values)} networks, by construction never above"
    )
    return measured, _count(between)


def _cnn1(bounds: Frame) -> Finding:
    rows = bounds[bounds["network"] == CNN1]
    values = _values(rows, [SUM, NAIVE])
    if values.empty:
        return _unmeasured(rows)
    ratio = float((values[SUM] / values[NAIVE]).iloc[0])
    folded = _values(rows, [FOLDED, NAIVE])
    ours = "" if folded.empty else f"; merge folded {float((folded[FOLDED] / folded[NAIVE]).iloc[0]):.3f}"
    return f"DCP / naive {ratio:.3f} (paper 0.721, other weights){ours}", _yes(ratio < 1)


def _cnn1_time(bounds: Frame) -> Finding:
    rows = bounds[(bounds["network"] == CNN1) & (bounds["role"] == SUM)]
    if not (rows["status"] == Status.OK).any():
        return _unmeasured(rows)
    return (
        f"{_cells.seconds(_seconds(rows).iloc[0])} s on one core of this machine (paper 864 s on 20)",
        "not comparable",
    )


def _finer(bounds: Frame) -> Finding:
    rows: Frame = partitioned(bounds)
    rows = rows[rows["status"] == Status.OK].assign(time=_seconds)
    best = {}
    for merge, line in rows.groupby("merge", sort=False):
        steps = [
            (fine.value / coarse.value, f"{coarse.grid} to {fine.grid} {coarse.time / fine.time:.3g} times faster")
            for coarse in line.itertuples()
            for fine in line.itertuples()
            if fine.patches > coarse.patches and coarse.time >= 5 * fine.time
        ]
        if steps:
            best[merge] = min(steps)
    if not best:
        return _unmeasured(bounds[bounds["experiment"] == "tradeoff"])
    measured = "; ".join(f"{m}: {step}, {100 * (worse - 1):.3g}% worse" for m, (worse, step) in best.items())
    holds = [str(merge) for merge, (worse, _) in best.items() if worse <= 1.25]
    return measured, f"with merge {', '.join(holds)}" if holds else "no"


def _nested(bounds: Frame) -> Finding:
    rows: Frame = partitioned(bounds)
    rows = rows[rows["status"] == Status.OK]
    pairs = [
        fine.value >= coarse.value
        for _, line in rows.groupby("merge")
        for coarse in line.itertuples()
        for fine in line.itertuples()
        if _refines(fine.grid, coarse.grid)
    ]
    if not pairs:
        return _unmeasured(bounds[bounds["experiment"] == "tradeoff"])
    return f"{sum(pairs)} of {len(pairs)} pairs of nested grids at the same merge", _yes(all(pairs))


def _refines(fine: str, coarse: str) -> bool:
    sides = [[int(n) for n in grid.replace(" ", "x").split("x")] for grid in (fine, coarse)]
    return fine != coarse and len(sides[0]) == len(sides[1]) and all(f % c == 0 for f, c in zip(*sides, strict=True))


def _growth(bounds: Frame, experiment: str) -> Finding:
    rows = bounds[(bounds["experiment"] == experiment) & (bounds["status"] == Status.OK)]
    times = rows.assign(time=_seconds(rows)).pivot_table(index="x", columns="role", values="time", aggfunc="first")
    both = times.reindex(columns=[WHOLE, SUM]).dropna()
    if len(both) < 2:
        return _unmeasured(bounds[bounds["experiment"] == experiment])
    ends = both.iloc[[0, -1]]
    growth = ends.iloc[1] / ends.iloc[0]
    measured = "; ".join(
        f"{name} {_cells.seconds(first)} to {_cells.seconds(last)} s ({factor:.3g} times)"
        for name, first, last, factor in zip(("LipSDP", "DCP"), ends.iloc[0], ends.iloc[1], growth, strict=True)
    )
    # a clock on a shared machine is not better than a tenth
    return f"from {ends.index[0]:g} to {ends.index[1]:g}: {measured}", _yes(growth[WHOLE] > 1.1 * growth[SUM])


def _cnn2(bounds: Frame) -> Finding:
    rows = bounds[bounds["network"].isin(CNN2)]
    found = [
        (network, part.drop_duplicates("role").set_index("role"))
        for network, part in rows.groupby("network", sort=False)
        if not (part["status"] == Status.NO_DATA).all() and {WHOLE, SUM, NAIVE} <= set(part["role"])
    ]
    if not found:
        return _unmeasured(rows)
    measured, holds = [], []
    for network, part in found:
        whole, dcp, naive = (part.loc[role] for role in (WHOLE, SUM, NAIVE))
        measured.append(
            f"{network}: LipSDP {_cells.bound(whole)}, DCP {_cells.bound(dcp)}, naive {_cells.bound(naive)}"
        )
        holds.append(not whole["solved"] and dcp["status"] == Status.OK)
    return "; ".join(measured), _yes(all(holds))


def _orthogonal(bounds: Frame) -> Finding:
    rows = bounds[bounds["experiment"] == "orthogonal"]
    values = _values(rows, [SUM, NAIVE])
    if values.empty:
        return _unmeasured(rows)
    measured = f"DCP {_range(values[SUM])}; naive {_range(values[NAIVE])}, which DCP is by construction never above"
    return measured, _yes((values[SUM] < 1.01).all())


def _merges(bounds: Frame) -> Finding:
    values = _values(bounds, [FOLDED, COVER, SUM])
    if values.empty:
        return _unmeasured(bounds)
    ordered = (values[FOLDED] <= values[COVER]) & (values[COVER] <= values[SUM])
    worst = max((values[FOLDED] / values[COVER]).max(), (values[COVER] / values[SUM]).max()) - 1
    excess = "" if ordered.all() else f"; the largest excess is {worst:.2g} of the value"
    return f"folded / sum {_range(values[FOLDED] / values[SUM])}{excess}", _count(ordered)


def _dynamic(bounds: Frame) -> Finding:
    options = bounds["options"].map(json.loads)
    rows = bounds.assign(
        time=_seconds(bounds),
        merge=options.map(lambda o: o.get("merge")),
        budget=options.map(lambda o: o.get("budget")),
        dynamic=options.map(lambda o: "auto" in (o.get("grid"), o.get("cuts"))),
    )
    cut: Frame = rows[rows["merge"].notna()]
    pairs = [
        (float(auto.value / given.value), f"{auto.network} {given.method}")
        for auto in cut[cut["dynamic"]].itertuples()
        for given in cut[~cut["dynamic"] & (cut["status"] == Status.OK)].itertuples()
        if (auto.network, auto.merge) == (given.network, given.merge) and given.time <= auto.budget
    ]
    if not pairs:
        return _unmeasured(cut[cut["dynamic"]])
    held = sum(quotient <= 1 for quotient, _ in pairs)
    worst, where = max((pair for pair in pairs if not pair[0] <= 1), default=(1.0, ""), key=lambda pair: pair[0])
    excess = "" if held == len(pairs) else f"; the largest excess is {worst - 1:.2g} of the value ({where})"
    return f"{held} of {len(pairs)} given partitions{excess}", _yes(held == len(pairs))


def _fits(bounds: Frame) -> Finding:
    rows = bounds[bounds["role"] == WHOLE]
    solved = rows[rows["solved"]]
    if solved.empty:
        return _unmeasured(rows)
    largest = solved.loc[solved["max_order"].fillna(0).astype(int).idxmax()]
    failed = rows[~rows["solved"] & (rows["status"] != Status.NO_DATA)]
    words = f"; none for {', '.join(failed['network'])}" if len(failed) else ""
    where = f"order {largest['max_order']} ({largest['network']}, {_cells.seconds(_seconds(rows)[largest.name])} s)"
    return f"the largest solved has {where}{words}", f"{len(solved)} of {len(solved) + len(failed)}"


def _sound(bounds: Frame) -> Finding:
    rows = bounds[(bounds["kind"] == Kind.CERTIFIED) & bounds["value"].notna() & bounds["best_lower"].notna()]
    above = rows["value"] >= rows["best_lower"]
    return f"{len(rows)} certified values on {rows['network'].nunique()} networks", _yes(above.all())


CLAIMS: list[tuple[str, str, Callable[[Frame], Finding]]] = [
    ("paper", "DCP lies between LipSDP and naive in the width sweep", lambda b: _between(b, "width_sweep")),
    ("reviewers", "the same for trained networks", lambda b: _between(b, "width_sweep_trained")),
    ("paper", "the same in the depth sweep", lambda b: _between(b, "depth_sweep")),
    ("reviewers", "the same for trained networks", lambda b: _between(b, "depth_sweep_trained")),
    ("paper", "with the width LipSDP's time grows faster than DCP's", lambda b: _growth(b, "width_sweep")),
    ("paper", "with the depth LipSDP's time grows faster than DCP's", lambda b: _growth(b, "depth_sweep")),
    ("paper", "a finer partition takes 5 times less time for a bound about 20% worse", _finer),
    ("paper", "DCP is tighter than naive on the trained CNN1", _cnn1),
    ("paper", "DCP takes 864 s on CNN1", _cnn1_time),
    ("paper", "DCP bounds CNN2, for which LipSDP is too large", _cnn2),
    ("paper", "on orthogonal networks DCP is near 1", _orthogonal),
    ("ours", "a finer grid is never tighter than one that it refines", _nested),
    ("ours", "folded <= cover <= sum", _merges),
    (
        "ours",
        "a dynamic partition is no worse than a given one of its merge that took no more than its budget",
        _dynamic,
    ),
    ("ours", "LipSDP of the whole network fits", _fits),
    ("ours", "no certified value lies below the lower bound of its network", _sound),
]


def _values(rows: Frame, roles: list[str]) -> Frame:
    """A row a network with the values of these roles, all of them there."""
    solved = rows[rows["role"].isin(roles) & (rows["status"] == Status.OK)]
    values = solved.pivot_table(index="network", columns="role", values="value", aggfunc="first")
    return values.reindex(columns=roles).dropna()


def _seconds(rows: Frame) -> Frame:
    return rows["seconds"] + rows["calibration_seconds"]


def _unmeasured(rows: Frame) -> Finding:
    if (rows["status"] == Status.NO_DATA).any():
        return "not measured: waits for data", "–"
    return "not measured: " + ("a row failed" if len(rows) else "not in this configuration"), "–"


def _range(values: Frame) -> str:
    low, high = (_cells.number(float(v), digits=3) for v in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _yes(holds: Frame) -> str:
    return "yes" if holds else "no"


def _count(holds: Frame) -> str:
    return "yes" if holds.all() else f"on {holds.sum()} of {len(holds)} networks"
