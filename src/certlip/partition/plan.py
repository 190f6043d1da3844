"""A plan: the segments of a network, the patches of each, and which of them are the same semidefinite program."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from certlip.errors import DataError, NoBound, UnsupportedLayer
from certlip.files import write_atomically
from certlip.network import LINEAR, Activation, Conv, Dense, Flatten, MaxPool, Network, Pair, Shape
from certlip.partition.window import Window, grid_windows, restrict
from certlip.plugins import nearest
from certlip.sdp import solvers

Merge = Literal["sum", "cover", "weighted", "folded"]

MAX_SPLIT = 10**11
"""Sum of cubed orders up to which patches are split by their cover: about a minute of matrix factorisations."""

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


def find_cuts(network: Network, after: Sequence[str] | None) -> list[int]:
    """Layer indices where segments begin, the end included.

    after: names of the layers that end a segment; None cuts before the first flattening and around max pooling.
    """
    layers = network.layers
    if after is None:
        cuts = {i for i, layer in enumerate(layers) if isinstance(layer, Flatten)}
        cuts |= {i + k for i, layer in enumerate(layers) if isinstance(layer, MaxPool) for k in (0, 1)}
    else:
        names = [layer.name for layer in layers]
        for name in after:
            if name not in names:
                raise NoBound(f"cuts: the network has no layer {name!r}{nearest(name, names)}")
        cuts = {names.index(name) + 1 for name in after}
    return sorted(cuts | {0, len(layers)})


def make_segment(
    network: Network, first: int, last: int, grid: Pair, merge: Merge = "sum", chain: bool = False
) -> SegmentPlan:
    """Layers [first, last) with the grid on its output map, patches with the same semidefinite program collected.

    Equal weights and geometry suffice for ``sum`` and ``cover``. The other merges gain where patches with another cover
    of their input pixels are on their own, which is done up to `MAX_SPLIT`; with `chain` every patch has to be, since
    what follows tells all outputs apart.
    A segment without a convolution is not cut. Max pooling on its own, and a segment where a semidefinite program
    cannot gain (fewer than two linear layers), are left to their layer constants; max pooling among other layers
    raises UnsupportedLayer.
    """
    segment = network.segment(first, last)
    names = tuple(layer.name for layer in segment.layers)
    shape = segment.shapes[-1]
    flat = len(shape) == 1 or not any(isinstance(layer, Conv) for layer in segment.layers)
    plan = SegmentPlan(first=first, last=last, layers=names, grid=(1, 1) if flat else grid)
    if not _gains(segment):
        return plan
    if plan.grid == (1, 1):
        block = BlockPlan(windows=(None,), fields=(None,), order=lmi_order(segment))
        return plan.model_copy(update={"blocks": (block,)})
    if grid[0] > shape[1] or grid[1] > shape[2]:
        raise NoBound(f"grid {grid[0]}x{grid[1]} is finer than the {shape[1]}x{shape[2]} output of {names[-1]}")
    patches = [(window, *restrict(segment, window)) for window in grid_windows(shape[1], shape[2], grid)]
    counts = cover([field for _, _, field in patches], segment.input_shape)
    keys: list[tuple] = [geometry(block) for _, block, _ in patches]
    orders = {key: lmi_order(block) for key, (_, block, _) in zip(keys, patches, strict=True)}
    if merge in ("weighted", "folded"):
        apart = [
            (*key, window if chain else counts[cast(Window, field).slices].tobytes())
            for key, (window, _, field) in zip(keys, patches, strict=True)
        ]
        orders |= {split: orders[key] for split, key in zip(apart, keys, strict=True)}
        if chain or sum(orders[key] ** 3 for key in set(apart)) <= MAX_SPLIT:
            keys = apart
    classes: dict[tuple, list[tuple[Window, Window]]] = {}
    for key, (window, _, field) in zip(keys, patches, strict=True):
        classes.setdefault(key, []).append((window, cast(Window, field)))
    blocks = tuple(
        BlockPlan(windows=tuple(w for w, _ in pairs), fields=tuple(f for _, f in pairs), order=orders[key])
        for key, pairs in classes.items()
    )
    return plan.model_copy(update={"blocks": blocks})


def cover(fields: Sequence[Window | None], shape: Shape) -> NDArray[np.int64]:
    """How many patches read each input pixel, (rows, columns); shape: of the segment's input map."""
    counts = np.zeros(shape[1:], dtype=np.int64)
    for field in fields:
        counts[field.slices if field else ...] += 1
    return counts


def geometry(block: Network) -> tuple:
    """What two sub-networks of one segment must share to be the same semidefinite program."""
    return block.input_shape, tuple(layer.padding for layer in block.layers if isinstance(layer, Conv))


def lmi_order(network: Network) -> int:
    """Order of the network's matrix inequality: its input and every neuron that feeds a later linear layer."""
    order, pending = 0, math.prod(network.input_shape)
    for layer, shape in zip(network.layers, network.shapes, strict=False):
        if isinstance(layer, LINEAR):
            order += pending
            pending = 0
        elif isinstance(layer, Activation) and order and layer.slopes != (1.0, 1.0):
            pending = math.prod(shape)
        elif isinstance(layer, MaxPool):
            raise UnsupportedLayer(f"{layer.name}: no semidefinite bound for MaxPool")
    return order


def _gains(segment: Network) -> bool:
    kinds = [type(layer) for layer in segment.layers if not isinstance(layer, Flatten)]
    linear = [i for i, kind in enumerate(kinds) if kind in (Conv, Dense)]
    return len(linear) >= 2
