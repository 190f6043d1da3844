"""What a plan is expected to cost and to lose, from shapes and a calibration alone.

Cost: seconds of a job by the calibration's laws, each distinct program once. On c cores no schedule that starts the
largest jobs first takes longer than total / c + (1 - 1 / c) longest (Graham, SIAM J. Appl. Math. 17, 1969).

Loss: the logarithm of the bound over that of one program for the whole network, a sum over cuts and segments. A cut
costs `Losses.cut`, or `Losses.chained_cut` between segments that hand a metric on. Cutting a map into n patches, c of
which read a pixel of the input on average, costs `Losses.grid`[merge] + `Losses.doubling`[merge] log2 n +
`Losses.overlap`[merge] log2 c, and never more than the product of layer constants, one cut a layer: both are joined by
a smooth minimum, so that a program always promises something. They rank plans; they are no bounds.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from certlip.network import LINEAR, Network
from certlip.partition.calibration import Calibration, job_memory_mb
from certlip.partition.merges import RULES, Merge
from certlip.partition.plan import JobPrediction, Plan, Prediction, SegmentPlan


class Losses(NamedTuple):
    """Of a cut between segments, of a chained one, of cutting a map at all, of each doubling of its patches, and of
    each doubling of those that read a pixel."""

    cut: float
    chained_cut: float
    grid: Mapping[Merge, float]
    doubling: Mapping[Merge, float]
    overlap: Mapping[Merge, float]


LOSSES = Losses(
    cut=0.6,
    chained_cut=0.4,
    grid={name: rule.grid_loss for name, rule in RULES.items()},
    doubling={name: rule.doubling_loss for name, rule in RULES.items()},
    overlap={name: rule.overlap_loss for name, rule in RULES.items()},
)
"""Measured on trained networks, CNN1 and a smaller one on digits: a cut lost 0.2 to 0.7, a chained one 0.4; 4, 16 and
64 patches of CNN1's convolutions lost 0.59, 1.02, 1.28 by ``sum``, 0.59, 0.73, 0.84 by ``cover``, 0.37, 0.65, 0.64 by
``weighted`` and, 1.7, 3.5 and 9 of them reading a pixel, 0.05, 0.11, 0.25 by ``folded``. Six padded convolutions with
random weights on 12x12 lost 0.20 and 0.39 by ``folded`` with 4 and 16 patches, 4 and 12 of them reading a pixel. The
benchmark ``looseness`` fits them again to any networks."""
SHARPNESS = 4
"""Of the smooth minimum (a^-s + b^-s)^(-1/s)."""


MOST_SIDE_BY_SIDE = 8
"""Jobs of a plan that one process does side by side."""


def side_by_side(orders: Sequence[int]) -> int:
    """How many processes are busy with jobs of these orders: each has a second's work and does not wait for the
    longest job."""
    seconds = [max(0.02, (order / 500) ** 2) for order in orders]
    busy = round(math.fsum(seconds) / max(seconds, default=1.0))
    return max(1, min(math.ceil(math.fsum(seconds)), busy))


def wall_seconds(total: float, longest: float, cores: int) -> float:
    """At most, for jobs of so many seconds in total."""
    return total / cores + (1 - 1 / cores) * longest


def segment_looseness(network: Network, segment: SegmentPlan, merge: Merge, losses: Losses = LOSSES) -> float:
    """Predicted logarithm of a segment's constant over that of its whole map."""
    n_linear = sum(isinstance(layer, LINEAR) for layer in network.layers[segment.first : segment.last])
    product = losses.cut * max(n_linear - 1, 0)
    if not segment.blocks or not product:
        return product
    n_patches = sum(len(block.windows) for block in segment.blocks)
    if n_patches == 1:
        return 0.0
    _, *sides = network.shapes[segment.first]
    fields = [field for block in segment.blocks for field in block.fields]
    n_read = sum(math.prod(field.size if field else sides) for field in fields)
    cut = losses.grid[merge] + losses.doubling[merge] * math.log2(n_patches)
    cut += losses.overlap[merge] * math.log2(max(n_read / math.prod(sides), 1.0))
    if not cut:
        return 0.0
    return (cut**-SHARPNESS + product**-SHARPNESS) ** (-1 / SHARPNESS)


def predict(
    network: Network, plan: Plan, calibration: Calibration, cores: int = 1, budget: float | None = None
) -> Prediction:
    """What a plan of this network is expected to cost and to lose."""
    jobs = []
    for job in plan.jobs:
        orders = plan.orders(job)
        seconds = calibration.job_seconds(plan.blocks_of(job), job.joint)
        cost = {"seconds": seconds, "peak_mb": job_memory_mb(plan, job)}
        jobs.append(JobPrediction(job=job.label, n_programs=len(orders), order=max(orders), **cost))
    times = [job.seconds + calibration.start_seconds for job in jobs]
    return Prediction(
        jobs=tuple(jobs),
        seconds=wall_seconds(math.fsum(times), max(times, default=0.0), cores),
        cores=cores,
        looseness=looseness(network, plan),
        n_max=calibration.n_max,
        calibration_seconds=calibration.seconds,
        budget=budget,
    )


def looseness(network: Network, plan: Plan, losses: Losses = LOSSES) -> float:
    """Predicted logarithm of the first plan's bound over that of one program for the whole network."""
    segments = [segment for segment in plan.segments if not segment.second]
    chainable = [plan.chain and segment.chainable for segment in segments]
    cuts = [losses.chained_cut if before and after else losses.cut for before, after in pairwise(chainable)]
    return math.fsum([*cuts, *(segment_looseness(network, segment, plan.merge, losses) for segment in segments)])
