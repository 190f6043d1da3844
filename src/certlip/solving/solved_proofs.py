"""What solved blocks of a plan prove: the proof of a segment that they make up, and whether each of them holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from certlip.base.errors import REFUSALS, CertlipError
from certlip.base.rounding import multiply_up, sqrt_up
from certlip.network import Network
from certlip.network.chain import linear_groups
from certlip.network.window import restrict
from certlip.partition.plan import Place, Plan, SegmentPlan
from certlip.proof.certificate import BlockProof, SegmentProof
from certlip.proof.merge import hand_on, merge_blocks
from certlip.proof.proofs import block_flaw, metric_flaw, tiling_flaw
from certlip.solving.solved import SolvedBlock


def merged_proof(part: Network, plan: Plan, index: int, blocks: Sequence[SolvedBlock]) -> SegmentProof:
    segment = plan.segments[index]
    planned = list(zip(segment.blocks, blocks, strict=True))
    rhos = [solved.rho or 0.0 for block, solved in planned for _ in block.windows]
    windows = [field for block, _ in planned for field in block.fields]
    constant = multiply_up([linear_groups(part)[2], merge_blocks(plan.rule.total, rhos, windows, part.input_shape)])
    proofs = tuple(BlockProof(b.windows, solved.rho or 0.0, solved.multipliers, solved.metric) for b, solved in planned)
    return SegmentProof(segment.first, segment.last, plan.rule.total, constant, blocks=proofs)


def metric_proof(network: Network, plan: Plan, run: Sequence[int], solved: Mapping[Place, SolvedBlock]) -> SegmentProof:
    """The proof of a run of segments, each a stage, whose blocks all have metrics."""
    proof = _stages_proof(plan, run, solved)
    segment = plan.segments[run[0]]
    first = network.segment(segment.first, segment.last)
    fields = [field for block in segment.blocks for field in block.fields]
    metrics = [p.metric for p in proof.blocks if p.stage == 0 for _ in p.windows if p.metric is not None]
    load = hand_on(metrics, fields, linear_groups(first)[2], first.input_shape)
    return replace(proof, constant=sqrt_up(float(load.max())))


def _stages_proof(plan: Plan, run: Sequence[int], solved: Mapping[Place, SolvedBlock]) -> SegmentProof:
    """As `metric_proof`, but of no particular constant."""
    segments = [plan.segments[index] for index in run]
    proofs = []
    for stage, (index, segment) in enumerate(zip(run, segments, strict=True)):
        for number, block in enumerate(segment.blocks):
            found = solved[index, number]
            proofs.append(BlockProof(block.windows, found.rho or 0.0, found.multipliers, found.metric, stage))
    cuts = tuple(segment.first for segment in segments[1:])
    return SegmentProof(segments[0].first, segments[-1].last, "metric", math.inf, blocks=tuple(proofs), cuts=cuts)


def plan_flaw(network: Network, plan: Plan) -> str:
    """Where a plan does not fit the network, in words; empty if it does.

    Its segments must be of the network's layers and lead from the first to the last, their patches tile their maps and
    read what the plan says, and those that are one program must be the same.
    """
    if plan.refusal:
        return "" if plan.refusal.status in REFUSALS else f"it is refused as {plan.refusal.status!r}"
    try:
        network = network.chain
        for number, segment in enumerate(plan.segments, start=1):
            names = tuple(layer.name for layer in network.layers[segment.first : segment.last])
            if segment.first < 0 or segment.layers != names:
                return f"segment {number} is not of the network's layers"
            part = network.segment(segment.first, segment.last)
            windows = [window for block in segment.blocks for window in block.windows]
            if segment.blocks and (flaw := tiling_flaw(part, windows) or _patches_flaw(part, segment)):
                return f"segment {number}: {flaw}"
            if windows not in ([], [None]) and segment.grid == (1, 1) and plan.rule.has_metrics:
                return f"segment {number}: it has patches but no grid"
    except CertlipError as error:
        return str(error)
    reached = {0}
    for segment in sorted(plan.segments, key=lambda s: s.last):
        reached |= {segment.last} if segment.first in reached else set()
    return "" if len(network.layers) in reached else "its segments do not reach the last layer"


def _patches_flaw(part: Network, segment: SegmentPlan) -> str:
    for block in segment.blocks:
        found = [restrict(part, window) for window in block.windows]
        if block.fields != tuple(field for _, field in found):
            return "its patches do not read what it says"
        if len({patch.sha256 for patch, _ in found}) != 1:
            return "patches that differ are one program"
    return ""


def solved_flaw(network: Network, plan: Plan, solved: Sequence[SolvedBlock]) -> str:
    """The first value of solved blocks that is not proved for the network's own patches, in words; empty if all are.

    plan: one without a `plan_flaw`; solved: of whole jobs of it.
    """
    chained = {(s.segment, s.block): s for s in solved if s.chained and s.rho is not None}
    alone = [s for s in solved if not s.chained and s.rho is not None]
    try:
        for run in plan.chains:
            places = {(index, number) for index in run for number in range(len(plan.segments[index].blocks))}
            found = {place: chained.pop(place) for place in places & chained.keys()}
            if found and (
                flaw := _chain_flaw(network, plan, run, found) if len(found) == len(places) else "incomplete"
            ):
                return f"segments {run[0] + 1} to {run[-1] + 1}, chained: {flaw}"
        for s in [*chained.values(), *alone]:
            if flaw := _own_flaw(network, plan, s):
                return f"segment {s.segment + 1}, program {s.block + 1}: {flaw}"
    except CertlipError as error:
        return str(error)
    return ""


def _chain_flaw(network: Network, plan: Plan, run: Sequence[int], solved: Mapping[Place, SolvedBlock]) -> str:
    proof = _stages_proof(plan, run, solved)
    return metric_flaw(network.segment(proof.first, proof.last), proof)


def _own_flaw(network: Network, plan: Plan, solved: SolvedBlock) -> str:
    rho, is_merged = solved.rho or 0.0, plan.merges_metrics(solved.segment)
    if solved.chained or (solved.metric is not None) != is_merged or (is_merged and rho != 1):
        return "its value is not of the kind that the plan merges"
    segment = plan.segments[solved.segment]
    window = segment.blocks[solved.block].windows[0]
    patch, _ = restrict(network.segment(segment.first, segment.last), window)
    return block_flaw(patch, BlockProof((window,), rho, solved.multipliers, solved.metric))
