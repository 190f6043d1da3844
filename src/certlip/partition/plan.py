"""A plan: the segments of a network, the patches of each, and which of them are the same semidefinite program."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

from certlip.errors import DataError
from certlip.files import write_atomically
from certlip.network import Pair
from certlip.partition.window import Window
from certlip.sdp import solvers

Merge = Literal["sum", "cover", "weighted", "folded"]

Place = tuple[int, int]
"""(segment, block) of a plan."""


class Job(NamedTuple):
    """One semidefinite program, or with `joint` one for all blocks of one or more segments together."""

    places: tuple[Place, ...]
    joint: bool = False

    @property
    def segments(self) -> list[int]:
        return sorted({segment for segment, _ in self.places})


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class BlockPlan(_Model):
    """One semidefinite program and the patches it serves.

    windows: output patches, equal in weights and geometry; None stands for the whole map; fields: the input patches
    they read; order: of the matrix inequality.
    """

    windows: tuple[Window | None, ...]
    fields: tuple[Window | None, ...]
    order: int


class SegmentPlan(_Model):
    """Layers [first, last) of the network; without blocks the segment is bounded by its layer constants."""

    first: int
    last: int
    layers: tuple[str, ...]
    grid: Pair = (1, 1)
    blocks: tuple[BlockPlan, ...] = ()


class Plan(_Model):
    """What is solved, how, and how the results are merged.

    refusal: status and reason of a method that cannot plan this network, which then has no segments; seconds: of
    planning; fallback: where semidefinite programs give no better bound of a segment (or none), take its product of
    layer constants; otherwise a failed block fails the plan; chain: also bound neighbouring segments in one go, each
    taking the metric of the next as output metric, and keep what is better.
    """

    segments: tuple[SegmentPlan, ...]
    refusal: tuple[str, str] | None = None
    merge: Merge = "sum"
    chain: bool = False
    fallback: bool = True
    solver: str = "auto"
    rtol: float = 1e-4
    seconds: float = 0.0

    @property
    def blocks(self) -> list[Place]:
        """Place of each distinct semidefinite program, the largest first."""
        pairs = [(s, b) for s, segment in enumerate(self.segments) for b in range(len(segment.blocks))]
        return sorted(pairs, key=lambda sb: -self.segments[sb[0]].blocks[sb[1]].order)

    @property
    def jobs(self) -> list[Job]:
        """What is solved on its own, the largest first."""
        together = [s for s in range(len(self.segments)) if self.merge == "folded" and self.merges_metrics(s)]
        jobs = [Job(tuple(place for place in self.blocks if place[0] == s), joint=True) for s in together]
        chained = [Job(tuple(place for place in self.blocks if place[0] in run), joint=True) for run in self.chains]
        return chained + jobs + [Job((place,)) for place in self.blocks if place[0] not in together]

    @property
    def chains(self) -> list[list[int]]:
        """Runs of segments that hand their metrics on, besides being solved on their own."""
        runs: list[list[int]] = [[]]
        for index, segment in enumerate(self.segments):
            if segment.blocks:
                runs[-1].append(index)
            else:
                runs.append([])
        return [run for run in runs if len(run) > 1] if self.chain else []

    def merges_metrics(self, segment: int) -> bool:
        """Whether the segment is solved in patches that have input metrics; the whole map needs none."""
        planned = self.segments[segment]
        return self.merge in ("weighted", "folded") and planned.grid != (1, 1) and bool(planned.blocks)

    @property
    def solver_modules(self) -> list[str]:
        """Modules of the solver, or of each that ``auto`` may take."""
        return [f"{solvers.__name__}.{name}" for name in (solvers.names() if self.solver == "auto" else [self.solver])]

    def save(self, path: str | Path) -> None:
        """Write the plan as readable JSON."""
        with write_atomically(path, "w") as handle:
            handle.write(self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Plan:
        """Read a plan; raises DataError if the file is missing or not one."""
        try:
            return cls.model_validate_json(Path(path).read_text())
        except FileNotFoundError as error:
            raise DataError(f"{path} does not exist") from error
        except ValueError as error:
            raise DataError(f"{path} is not a certlip plan; delete it and run again") from error
