"""A plan: the segments of a network, the patches of each, and which of them are the same semidefinite program."""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, NamedTuple

from certlip.base.errors import Refusal
from certlip.base.model import FileModel, Model
from certlip.network import Pair
from certlip.network.window import Window
from certlip.partition.merges import RULES, Merge, MergeRule

Place = tuple[int, int]
"""(segment, block) of a plan."""


class Job(NamedTuple):
    """One semidefinite program, or with `joint` one for all blocks of one or more segments together."""

    places: tuple[Place, ...]
    joint: bool = False

    @property
    def segments(self) -> list[int]:
        return sorted({segment for segment, _ in self.places})

    @property
    def chained(self) -> bool:
        return len(self.segments) > 1

    @property
    def label(self) -> str:
        """What people call it."""
        (segment, block), *_ = self.places
        if self.chained:
            return f"segments {self.segments[0] + 1} to {self.segments[-1] + 1}, chained"
        return f"segment {segment + 1}, jointly" if self.joint else f"segment {segment + 1}, program {block + 1}"


class BlockPlan(Model):
    """One semidefinite program and the patches it serves.

    windows: output patches, equal in weights and geometry; None stands for the whole map; fields: the input patches
    they read; order: of the matrix inequality; solved_sizes: of what the solver sees of it (`certlip.sdp.reduce`):
    inputs, each hidden layer, outputs.
    """

    windows: tuple[Window | None, ...]
    fields: tuple[Window | None, ...]
    order: int
    solved_sizes: tuple[int, ...]

    @property
    def solved_order(self) -> int:
        """Of the matrix inequality that the solver sees."""
        return sum(self.solved_sizes[:-1])

    @property
    def n_weights(self) -> int:
        """Entries of the matrices that the solver sees."""
        return sum(before * after for before, after in pairwise(self.solved_sizes))


class SegmentPlan(Model):
    """Layers [first, last) of the network; without blocks the segment is bounded by its layer constants.

    second: it belongs to the second plan: another way to bound these layers; note: what there is to say of how it was
    planned.
    """

    first: int
    last: int
    layers: tuple[str, ...]
    grid: Pair = (1, 1)
    blocks: tuple[BlockPlan, ...] = ()
    second: bool = False
    note: str = ""

    @property
    def named(self) -> str:
        """What people call it."""
        return f"layers {self.layers[0]} to {self.layers[-1]}"

    @property
    def chainable(self) -> bool:
        """Whether it can hand a metric on or take one: each patch a program of its own, since what follows tells all
        outputs apart."""
        return bool(self.blocks) and all(len(block.windows) == 1 for block in self.blocks)


class JobPrediction(Model):
    """What one of `Plan.jobs` is expected to take; order: of its largest matrix inequality; peak_mb: of its process."""

    job: str
    n_programs: int
    order: int
    seconds: float
    peak_mb: float


class Prediction(Model):
    """What a plan is expected to cost and to lose, and what it was chosen by.

    jobs: in the order of `Plan.jobs`; seconds: at most, from the first to the last on so many cores, starting their
    processes included; looseness: logarithm of the predicted bound over that of one program for the whole network;
    n_max: the largest order of a program within the limits; budget: of an automatic plan; calibration_seconds: what
    knowing this took.
    """

    jobs: tuple[JobPrediction, ...]
    seconds: float
    cores: int
    looseness: float
    n_max: int
    calibration_seconds: float
    budget: float | None = None


class Plan(FileModel):
    """What is solved, how, and how the results are merged.

    segments: of the first plan from the first layer to the last, then of the second where there is one, less those that
    both have. All are solved, and the merge takes the best way through the layers, from one plan to the other where
    both have a cut. refusal: of a method that cannot plan this network, which then has no segments; seconds: of
    planning; fallback: where semidefinite programs give no better bound of a segment (or none), take its product of
    layer constants; otherwise a segment with a block that failed, but for a limit, has no bound; chain: also bound
    neighbouring segments in one go, each taking the metric of the next as output metric, and keep what is better;
    prediction: of an automatic plan.
    """

    noun: ClassVar = "plan"

    segments: tuple[SegmentPlan, ...]
    refusal: Refusal | None = None
    merge: Merge = "sum"
    chain: bool = False
    fallback: bool = True
    solver: str = "auto"
    rtol: float = 1e-4
    seconds: float = 0.0
    prediction: Prediction | None = None

    @property
    def rule(self) -> MergeRule:
        return RULES[self.merge]

    @property
    def blocks(self) -> list[Place]:
        """Place of each distinct semidefinite program, the largest first."""
        pairs = [(s, b) for s, segment in enumerate(self.segments) for b in range(len(segment.blocks))]
        return sorted(pairs, key=lambda sb: -self.segments[sb[0]].blocks[sb[1]].order)

    @property
    def jobs(self) -> list[Job]:
        """What is solved on its own, the largest first."""
        together = [s for s in range(len(self.segments)) if self.rule.joint and self.merges_metrics(s)]
        jobs = [Job(tuple(place for place in self.blocks if place[0] == s), joint=True) for s in together]
        chained = [Job(tuple(place for place in self.blocks if place[0] in run), joint=True) for run in self.chains]
        return chained + jobs + [Job((place,)) for place in self.blocks if place[0] not in together]

    def orders(self, job: Job) -> list[int]:
        """Of the matrix inequalities of a job, as they are solved."""
        return [block.solved_order for block in self.blocks_of(job)]

    def blocks_of(self, job: Job) -> list[BlockPlan]:
        """The distinct semidefinite programs of a job."""
        return [self.segments[segment].blocks[block] for segment, block in job.places]

    @property
    def chains(self) -> list[list[int]]:
        """Runs of segments that hand their metrics on, besides being solved on their own."""
        runs: list[list[int]] = [[]]
        for index, segment in enumerate(self.segments):
            if runs[-1] and self.segments[runs[-1][-1]].last != segment.first:
                runs.append([])
            if segment.chainable:
                runs[-1].append(index)
            else:
                runs.append([])
        return [run for run in runs if len(run) > 1] if self.chain else []

    def merges_metrics(self, segment: int) -> bool:
        """Whether the segment is solved in patches that have input metrics; the whole map needs none."""
        planned = self.segments[segment]
        return self.rule.has_metrics and planned.grid != (1, 1) and bool(planned.blocks)
