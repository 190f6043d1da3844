"""A plan for people: its segments, its programs, what they are predicted to take and what they took."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from rich.console import Group, RenderableType
from rich.table import Table

from certlip.partition.plan import Job, Plan, Prediction, SegmentPlan
from certlip.partition.predict import MOST_SIDE_BY_SIDE, side_by_side
from certlip.solving.solved import SolvedBlock, blocks_of
from certlip.solving.solved_files import load_solved


def solved_of(path: Path) -> list[SolvedBlock]:
    """The solved blocks beside a plan of the workflow, results/blocks/NETWORK/METHOD for results/plans/; maybe none."""
    folder = path.parents[2] / "blocks" / path.parent.name / path.stem if len(path.parents) > 2 else path / "none"
    plan = Plan.load(path)
    files = [load_solved(file) for file in sorted(folder.glob("*.npz"))]
    return [block for _, of_plan, blocks in files if of_plan == plan for block in blocks]


def render(plan: Plan, prediction: Prediction | None, solved: Sequence[SolvedBlock] = ()) -> RenderableType:
    """Two tables and a few sentences."""
    return Group(_segments(plan), "", _jobs(plan, prediction, solved), "", *_sentences(plan, prediction))


def _segments(plan: Plan) -> Table:
    table = _table("segment", "plan", "layers", "grid", "patches", "programs", "orders", "receptive fields")
    for number, segment in enumerate(plan.segments, start=1):
        which = "second" if segment.second else "first"
        layers = segment.layers[0] if len(segment.layers) == 1 else f"{segment.layers[0]} .. {segment.layers[-1]}"
        patches = sum(len(block.windows) for block in segment.blocks)
        orders = sorted({block.order for block in segment.blocks})
        described = [str(patches), str(len(segment.blocks)), _range(orders), _fields(segment)]
        table.add_row(str(number), which, layers, _by(segment.grid), *(described if segment.blocks else ["-"] * 4))
    return table


def _jobs(plan: Plan, prediction: Prediction | None, solved: Sequence[SolvedBlock]) -> Table:
    table = _table("job", "programs", "largest order", "predicted s", "actual s", "outcome")
    predicted = [job.seconds for job in prediction.jobs] if prediction else [None] * len(plan.jobs)
    actual = [_seconds_of(job, solved) for job in plan.jobs]
    for job, expected, took in zip(plan.jobs, predicted, actual, strict=True):
        order, outcome = str(max(plan.orders(job))), _outcome_of(job, solved)
        table.add_row(job.label, str(len(job.places)), order, _number(expected), _number(took), outcome)
    sums = [None if None in column else math.fsum(c or 0.0 for c in column) for column in (predicted, actual)]
    table.add_row("all, one after the other", "", "", *map(_number, sums))
    return table


def _sentences(plan: Plan, prediction: Prediction | None) -> Iterator[str]:
    busy = side_by_side([sum(plan.orders(job)) for job in plan.jobs])
    if (parts := math.ceil(busy / MOST_SIDE_BY_SIDE)) > 1:
        yield f"It keeps {busy} processes busy: on a cluster spread it over {parts} jobs (parts: {parts})."
    for segment in plan.segments:
        if segment.note:
            yield f"Layers {segment.layers[0]} to {segment.layers[-1]}: {segment.note}."
    if any(segment.second for segment in plan.segments):
        yield "A program of the first plan might not keep its limits: the second is solved too, the better counts."
    if prediction is None:
        return
    budget = "" if prediction.budget is None else f", the budget is {prediction.budget:g} s"
    cores = "1 core" if prediction.cores == 1 else f"{prediction.cores} cores"
    yield f"Predicted: at most {prediction.seconds:.3g} s on {cores}, processes started included{budget};"
    yield f"{math.exp(prediction.looseness):.3g} times the bound of one program for the whole network."
    calibrated = f"calibrated in {prediction.calibration_seconds:.3g} s"
    yield f"N_max, the largest order of a program within the limits: {prediction.n_max} ({calibrated})."


def _seconds_of(job: Job, solved: Sequence[SolvedBlock]) -> float | None:
    found = blocks_of(job, solved)
    return math.fsum(s.seconds for s in found) if found else None


def _outcome_of(job: Job, solved: Sequence[SolvedBlock]) -> str:
    found = blocks_of(job, solved)
    words = dict.fromkeys(f"{s.status}: {s.reason}" if s.reason else s.status for s in found)
    return "; ".join(words) or "-"


def _fields(segment: SegmentPlan) -> str:
    sizes = {field.size for block in segment.blocks for field in block.fields if field is not None}
    return ", ".join(map(_by, sorted(sizes))) or "the whole input"


def _by(pair: Sequence[int]) -> str:
    return "x".join(map(str, pair))


def _range(orders: Sequence[int]) -> str:
    if not orders:
        return ""
    return str(orders[0]) if len(orders) == 1 else f"{orders[0]} to {orders[-1]}"


def _number(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.3g}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table
