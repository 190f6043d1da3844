"""Solving the sub-blocks of a plan, each an independent semidefinite program, and putting the bound together."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib

from certlip.base.deadline import Deadline
from certlip.base.errors import DamagedFile, DataError, NoBound, Refusal
from certlip.base.limits import Limits, load_scipy
from certlip.base.progress import stage
from certlip.base.record import Status
from certlip.methods import Bound, needs_calibration, torus
from certlip.methods.product import best_product
from certlip.network import Network
from certlip.network.scaling import scale_network
from certlip.partition.calibration import Calibration
from certlip.partition.plan import Job, Place, Plan
from certlip.partition.search import LEFT
from certlip.proof import norms
from certlip.proof.certificate import UpperCertificate, constants_proof
from certlip.solving.jobs import code_of
from certlip.solving.lanes import Lane, batches
from certlip.solving.solved import SolvedBlock
from certlip.solving.solved_cache import SolvedCache
from certlip.solving.solved_files import load_solved, places_of, save_solved
from certlip.solving.solved_proofs import merged_proof, metric_proof, plan_flaw, solved_flaw
from certlip.solving.way import Step, gap_of, tightest

TORUS_SECONDS = 10.0
"""Time for one multiplier a channel where programs with one a neuron did not fit theirs."""


def make_plan(
    network: Callable[[], Network],
    method: ModuleType,
    options: Mapping[str, Any],
    calibration: Callable[[], Calibration] | None = None,
) -> Plan:
    """The method's plan of the network, timed; where it refuses the network, a plan that says so.

    calibration: asked for where the method plans by it.
    """
    try:
        loaded = network().chain
        filled = {"calibration": calibration()} if calibration and needs_calibration(method, options) else {}
        begin = time.perf_counter()
        plan: Plan = method.plan(loaded, **filled, **options)
    except NoBound as error:
        return Plan(segments=(), refusal=error.refusal)
    return plan.model_copy(update={"seconds": time.perf_counter() - begin})


def solve_blocks(
    network: Network,
    plan: Plan,
    jobs: Iterable[Job] | None = None,
    *,
    limit: Limits | None = None,
    n_jobs: int = 1,
    cache: str | Path | None = None,
    until: Deadline = Deadline(),  # noqa: B008, frozen
) -> list[SolvedBlock]:
    """Do jobs of a plan, `n_jobs` at a time, each in a process of its own when there is a limit.

    What is solved is `certlip.network.scaling.scale_network` of the network, and the blocks are in its units.
    jobs: which, all of the plan when None; cache: private folder of solved programs, keyed by their content
    (weights, solver, tolerance, code), None for no cache; until: when the last job has to end. A block that fails comes
    back with its status and reason.
    """
    todo = list(plan.jobs if jobs is None else jobs)
    solved: dict[int, list[SolvedBlock]] = {}
    n_lanes = joblib.effective_n_jobs(n_jobs)
    # one that is alone needs no count
    counted = stage("semidefinite programs", len(todo)) if len(todo) > n_lanes else nullcontext(lambda: None)
    with counted as advance:

        def tell(number: int, found: list[SolvedBlock]) -> None:
            solved[number] = found
            advance()

        scaled = scale_network(network.chain).network
        lane = Lane(scaled, plan, limit or Limits(), SolvedCache(cache), code_of(plan), tell, until)
        shared = batches(plan, todo, n_lanes)
        joblib.Parallel(n_lanes, prefer="threads")(joblib.delayed(lane.work)(shared) for _ in range(n_lanes))
    return [block for number in range(len(todo)) for block in solved[number]]


def merge_plan(
    network: Network, plan: Plan, solved: Sequence[SolvedBlock], max_seconds: float = TORUS_SECONDS
) -> Bound:
    """The certified bound of the network: the tightest way through its layers by what is proved of the plan's segments.

    A segment of which a limit cut a program short may take its product of layer constants whether the plan has a
    fallback or not; and where the partition was not given, the network one multiplier a channel, found in
    `max_seconds`. Raises NoBound where a block that failed leaves no way, or if the plan's solver does not work here.
    """
    if plan.refusal is not None:
        raise plan.refusal.error()
    load_scipy()
    begin = time.perf_counter()
    failed = _failures(plan, solved)
    scaled = scale_network(network.chain)
    way = tightest(list(_steps(scaled.network, plan, solved)), len(scaled.network.layers))
    if way is None and failed:
        raise failed[0][1].error()
    if way is None:
        raise DataError("the plan's segments do not reach the last layer; plan again")
    certificate = UpperCertificate(scaled.network, tuple(step.proof for step in way))
    details = {**_details(plan, solved), "gap": gap_of(way)}
    found = Bound(certificate.value, certificate, reason=_reason(plan, way, failed), details=details)
    if why := _given_up(plan, failed):
        found = _or_torus(scaled.network, found, why, max_seconds)
    seconds = details["seconds"] + plan.seconds + time.perf_counter() - begin
    found = replace(found, details={**found.details, "seconds": seconds})
    rewritten = network.chain is not network
    found = found.given_back(network, scaled.exponents, rewritten)
    return _or_product(network, found) if plan.fallback and rewritten else found


Failure = tuple[SolvedBlock, Refusal]


def _failures(plan: Plan, solved: Sequence[SolvedBlock]) -> list[Failure]:
    """The programs without a value; raises DataError where some are not solved, NoBound where the solver does not
    work."""
    planned = places_of(plan)
    if missing := planned - {((s.segment, s.block), s.chained) for s in solved}:
        raise DataError(f"{len(missing)} of {len(planned)} blocks are not solved; run solve_blocks again")
    failed = [(s, refusal) for s in solved if (refusal := s.refusal) is not None]
    for _, refusal in failed:
        if refusal.status == Status.SOLVER_FAILED:
            raise refusal.error()
    return failed


def _reason(plan: Plan, way: Sequence[Step], failed: Sequence[Failure]) -> str:
    """What there is to say of the plan, of the way that is taken, and of programs that failed beside it."""
    notes = [f"{segment.named}: {segment.note}" for segment in plan.segments if segment.note]
    notes += [step.note for step in way if step.note]
    by_constants = {(step.proof.first, step.proof.last) for step in way if step.proof.rule == "constants"}
    for s, refusal in failed:
        segment = plan.segments[s.segment]
        if s.chained:
            notes.append(f"{segment.named} are not chained: {refusal.reason}")
        elif (segment.first, segment.last) not in by_constants:
            notes.append(f"{segment.named} are bounded another way: {refusal.reason}")
    return "; ".join(dict.fromkeys(notes))


def _given_up(plan: Plan, failed: Sequence[Failure]) -> str:
    """Why programs of a plan whose partition was not given were too slow, or are left out; else empty."""
    is_whole = len(plan.segments) == 1 and plan.segments[0].grid == (1, 1)
    reasons = [refusal.reason for _, refusal in failed if refusal.status == Status.TIME_LIMIT]
    reasons += [segment.note for segment in plan.segments if segment.note == LEFT]
    return reasons[0] if reasons and (is_whole or plan.prediction) else ""


def _or_torus(network: Network, found: Bound, why: str, max_seconds: float) -> Bound:
    """The bound, or that of one multiplier a channel of the maps, which takes seconds where those of neurons take
    hours."""
    if not torus.first_cut(network):
        return found
    try:
        shared = torus.bound(network, max_seconds=max_seconds)
    except NoBound:
        return found
    if shared.value >= found.value:
        return found
    reason = f"one multiplier a channel (torus): {why}"
    return replace(shared, reason=reason, details={**found.details, "gap": shared.details.get("gap")})


def _or_product(network: Network, found: Bound) -> Bound:
    """The bound, or the product of layer constants along the graph, which may be smaller than along its chain."""
    product = best_product(network)
    if product.value >= found.value:
        return found
    reason = "the product of norms along the graph is smaller"
    return replace(product, reason=reason, details={**found.details, "gap": None})


def _steps(network: Network, plan: Plan, solved: Sequence[SolvedBlock]) -> Iterator[Step]:
    """All that is proved of the plan's segments, on their own and chained."""
    alone = {(s.segment, s.block): s for s in solved if not s.chained}
    chained = {(s.segment, s.block): s for s in solved if s.chained}
    for index in range(len(plan.segments)):
        yield from _segment_steps(network, plan, index, alone)
    for run in plan.chains:
        yield from _chain_steps(network, plan, run, chained)


_CUT_SHORT = (Status.OK, Status.TIME_LIMIT, Status.MEMORY_LIMIT)
"""With a reason: what a limit made of a program."""


def _segment_steps(network: Network, plan: Plan, index: int, solved: Mapping[Place, SolvedBlock]) -> Iterator[Step]:
    """What is proved of a segment on its own: its layer constants, and what its programs give where none failed."""
    segment = plan.segments[index]
    part = network.segment(segment.first, segment.last)
    blocks = [solved[index, b] for b in range(len(segment.blocks))]
    failed = [s for s in blocks if s.rho is None]
    cut_short = any(s.reason and s.status in _CUT_SHORT for s in blocks)
    if plan.fallback or not blocks or cut_short:
        why = failed[0].reason if failed else "its programs give no better one"
        note = f"{segment.named} use the product of norms: {why}" if blocks else ""
        yield Step(constants_proof(segment.first, part, norms.joint_constants(part)), note=note)
    if blocks and not failed:
        has_metrics = plan.merges_metrics(index)
        proof = metric_proof(network, plan, [index], solved) if has_metrics else merged_proof(part, plan, index, blocks)
        yield Step.of(proof, blocks)


def _chain_steps(
    network: Network, plan: Plan, run: Sequence[int], solved: Mapping[Place, SolvedBlock]
) -> Iterator[Step]:
    """What is proved of segments that hand their metrics on."""
    blocks = [solved[index, b] for index in run for b in range(len(plan.segments[index].blocks))]
    if all(s.rho is not None for s in blocks):
        yield Step.of(metric_proof(network, plan, run, solved), blocks)


def _details(plan: Plan, solved: Sequence[SolvedBlock]) -> dict[str, Any]:
    """What the programs cost, as fields of a `Record`."""
    done = [s for s in solved if s.rho is not None]
    margins = [s.margin for s in done if s.margin is not None]
    iterations = [s.iterations for s in done if s.iterations is not None]
    return {
        "n_sdps": sum(len(plan.segments[s].blocks[b].windows) for job in plan.jobs for s, b in job.places),
        "n_distinct_sdps": sum(len(job.places) for job in plan.jobs),
        "max_order": max((b.order for segment in plan.segments for b in segment.blocks), default=None),
        "solver": ", ".join(sorted({s.solver for s in done})) or None,
        "solver_version": ", ".join(sorted({s.solver_version for s in done})) or None,
        "iterations": max(iterations, default=None),
        "margin": max(margins, default=None),
        "seconds": math.fsum(s.seconds for s in solved),
        "peak_mb": max((s.peak_mb for s in solved), default=None),
        "calibration_seconds": plan.prediction.calibration_seconds if plan.prediction else 0.0,
    }


def solve_files(network: str | Path, plan: str | Path, item: int, count: int, path: str | Path, **how: Any) -> None:
    """Solve part `item` of `count` of a plan's jobs and write it to `path`; how: limit, n_jobs, cache (`solve_blocks`).

    The network is read only where there is something to solve.
    """
    planned = Plan.load(plan)
    if jobs := planned.jobs[item - 1 :: count]:
        loaded = Network.load(network)
        save_solved(path, loaded, planned, solve_blocks(loaded, planned, jobs, **how))
    else:
        save_solved(path, None, planned, [])


def merge_files(network: str | Path, plan: str | Path, solved: Sequence[str | Path]) -> Bound:
    """`merge_plan` of files, which are not believed: every solved block is proved before it is merged.

    Raises DataError naming the file that belongs to another network or plan, or does not prove what it claims.
    """
    planned = Plan.load(plan)
    blocks: list[SolvedBlock] = []
    loaded = Network.load(network)
    scaled = scale_network(loaded.chain).network
    if flaw := plan_flaw(loaded, planned):
        raise DamagedFile(f"{plan} is no plan of {network} ({flaw})", plan)
    for path in solved:
        of_network, of_plan, found = load_solved(path)
        if of_plan != planned or (of_network is not None and of_network.sha256 != loaded.sha256):
            raise DamagedFile(f"{path} belongs to another network or plan", path)
        if flaw := solved_flaw(scaled, planned, found):
            raise DamagedFile(f"{path} does not prove what it claims ({flaw})", path)
        blocks += found
    return merge_plan(loaded, planned, blocks)
