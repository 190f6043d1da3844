"""Solving the sub-blocks of a plan, each an independent semidefinite program, and putting the bound together."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib

from certlip import norms
from certlip.certificate import UpperCertificate, constants_proof
from certlip.errors import DataError, LimitExceeded, NoBound
from certlip.files import read_npz, write_npz
from certlip.jobs import code_of
from certlip.lanes import Lane, batches
from certlip.limits import Limits
from certlip.methods import Bound, needs_calibration
from certlip.network import Network
from certlip.partition.calibration import Calibration
from certlip.partition.plan import Job, Place, Plan
from certlip.progress import bar
from certlip.record import Status
from certlip.rounding import multiply_up
from certlip.scaling import scale_network
from certlip.solved import SolvedBlock, from_arrays, to_arrays
from certlip.solved_cache import SolvedCache
from certlip.solved_proofs import merged_proof, metric_proof, plan_flaw, solved_flaw


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
        loaded = network()
        filled = {"calibration": calibration()} if calibration and needs_calibration(method, options) else {}
        begin = time.perf_counter()
        plan: Plan = method.plan(loaded, **filled, **options)
    except NoBound as error:
        return Plan(segments=(), refusal=(error.status, str(error)))
    return plan.model_copy(update={"seconds": time.perf_counter() - begin})


def solve_blocks(
    network: Network,
    plan: Plan,
    jobs: Iterable[Job] | None = None,
    *,
    limit: Limits | None = None,
    n_jobs: int = 1,
    cache: str | Path | None = None,
) -> list[SolvedBlock]:
    """Do jobs of a plan, `n_jobs` at a time, each in a process of its own when there is a limit.

    What is solved is `certlip.scaling.scale_network` of the network, and the blocks are in its units.
    jobs: which, all of the plan when None; cache: private folder of solved programs, keyed by their content
    (weights, solver, tolerance, code), None for no cache. A block that fails comes back with its status and reason.
    """
    todo = list(plan.jobs if jobs is None else jobs)
    solved: dict[int, list[SolvedBlock]] = {}
    n_lanes = joblib.effective_n_jobs(n_jobs)
    with bar("semidefinite programs", len(todo)) as advance:

        def tell(number: int, found: list[SolvedBlock]) -> None:
            solved[number] = found
            advance()

        scaled = scale_network(network).network
        lane = Lane(scaled, plan, limit or Limits(), SolvedCache(cache), code_of(plan), tell)
        shared = batches(plan, todo, n_lanes)
        joblib.Parallel(n_lanes, prefer="threads")(joblib.delayed(lane.work)(shared) for _ in range(n_lanes))
    return [block for number in range(len(todo)) for block in solved[number]]


def merge_plan(network: Network, plan: Plan, solved: Sequence[SolvedBlock]) -> Bound:
    """The certified bound of the network: the product over segments of the best proved constant of each.

    A segment of which a limit cut a program short takes its product of layer constants where that is better, whether
    the plan has a fallback or not. Raises NoBound for a block that failed otherwise if it has none, or if its solver
    does not work here.
    """
    if plan.refusal is not None:
        raise LimitExceeded(*plan.refusal)
    begin = time.perf_counter()
    by_place = {(s.segment, s.block): s for s in solved if not s.chained}
    chained = {(s.segment, s.block): s for s in solved if s.chained}
    planned = _places(plan)
    if missing := planned - {((s.segment, s.block), s.chained) for s in solved}:
        raise DataError(f"{len(missing)} of {len(planned)} blocks are not solved; run solve_blocks again")
    notes = [f"layers {s.layers[0]} to {s.layers[-1]}: {s.note}" for s in plan.segments if s.note]
    notes += [s.reason for s in solved if s.status == Status.OK and s.reason]
    proofs = []
    scaled = scale_network(network)
    for index, segment in enumerate(plan.segments):
        part = scaled.network.segment(segment.first, segment.last)
        blocks = [by_place[index, b] for b in range(len(segment.blocks))]
        failed = [s for s in blocks if s.rho is None]
        other = [s for s in failed if s.status not in _CUT_SHORT]
        if other and (not plan.fallback or other[0].status == Status.SOLVER_FAILED):
            raise LimitExceeded(other[0].status, other[0].reason)
        candidates = []
        if plan.fallback or not blocks or any(s.reason for s in blocks):
            candidates.append(constants_proof(segment.first, norms.layer_constants(part)))
        if blocks and not failed:
            merged = metric_proof(scaled.network, plan, [index], by_place) if plan.merges_metrics(index) else None
            candidates.append(merged or merged_proof(part, plan, index, blocks))
        best = min(candidates, key=lambda proof: proof.constant)
        if blocks and best.rule == "constants":
            why = failed[0].reason if failed else "its programs give no better one"
            notes.append(f"layers {segment.layers[0]} to {segment.layers[-1]} use the product of norms: {why}")
        proofs.append(best)
    for run in reversed(plan.chains):
        failed = [chained[index, b] for index in run for b in range(len(plan.segments[index].blocks))]
        failed = [s for s in failed if s.rho is None]
        apart = multiply_up(proofs[index].constant for index in run)
        if failed:
            notes.append(f"segments {run[0]} to {run[-1]} are not chained: {failed[0].reason}")
        elif (proof := metric_proof(scaled.network, plan, run, chained)).constant < apart:
            proofs[run[0] : run[-1] + 1] = [proof]
    certificate = UpperCertificate(scaled.network, tuple(proofs))
    details = _details(plan, solved)
    details["seconds"] += plan.seconds + time.perf_counter() - begin
    found = Bound(certificate.value, certificate, reason="; ".join(dict.fromkeys(notes)), details=details)
    return found.multiplied_back(network, scaled.exponents)


def _places(plan: Plan) -> set[tuple[Place, bool]]:
    """Place of each block that is to be solved, and whether as one of a chain."""
    return {(place, job.chained) for job in plan.jobs for place in job.places}


_CUT_SHORT = (Status.TIME_LIMIT, Status.MEMORY_LIMIT)


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


def save_solved(path: str | Path, network: Network | None, plan: Plan, solved: Sequence[SolvedBlock]) -> None:
    """Write solved blocks with their plan and network to one .npz file; without blocks the network may be None."""
    described, arrays = network.to_arrays() if network else ({}, {})
    entries, more = to_arrays(solved)
    header = {"network": described, "sha256": network.sha256 if network else None, "plan": plan.model_dump(mode="json")}
    write_npz(path, {"certificate": "blocks", **header, "solved": entries}, arrays | more)


def load_solved(path: str | Path) -> tuple[Network | None, Plan, list[SolvedBlock]]:
    """Read a file of `save_solved`; raises DataError if it is missing, damaged or not one."""
    header, arrays = read_npz(path)
    try:
        network = Network.from_arrays(header["network"], arrays) if header["network"] else None
        if network is not None and network.sha256 != header["sha256"]:
            raise DataError(f"{path}: the network inside does not match its sha256; do not trust this file")
        solved = from_arrays(header["solved"], arrays)
        plan = Plan.model_validate(header["plan"])
        if not {((s.segment, s.block), s.chained) for s in solved} <= _places(plan):
            raise ValueError("a block that is not in the plan")
        if solved and network is None:
            raise ValueError("blocks of no network")
        return network, plan, solved
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        said = " ".join(repr(error).split())
        raise DataError(f"{path} does not hold solved blocks ({said}); delete it and run again") from error


def merge_files(network: str | Path, plan: str | Path, solved: Sequence[str | Path]) -> Bound:
    """`merge_plan` of files, which are not believed: every solved block is proved before it is merged.

    Raises DataError naming the file that belongs to another network or plan, or does not prove what it claims.
    """
    planned = Plan.load(plan)
    blocks: list[SolvedBlock] = []
    loaded = Network.load(network)
    scaled = scale_network(loaded).network
    if flaw := plan_flaw(loaded, planned):
        raise DataError(f"{plan} is no plan of {network} ({flaw}); delete it and run again")
    for path in solved:
        of_network, of_plan, found = load_solved(path)
        if of_plan != planned or (of_network is not None and of_network.sha256 != loaded.sha256):
            raise DataError(f"{path} belongs to another network or plan; delete it and run again")
        if flaw := solved_flaw(scaled, planned, found):
            raise DataError(f"{path} does not prove what it claims ({flaw}); delete it and run again")
        blocks += found
    return merge_plan(loaded, planned, blocks)
