"""What a second worker is worth: one plan of distinct semidefinite programs, solved by one worker and by more.

Each worker solves one program at a time in a process of its own with one BLAS thread (`certlip.base.limits`), so what
keeps the speed-up below the number of workers is memory bandwidth and the start of processes.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np

from certlip.base.limits import Limits
from certlip.network import Activation, Conv, Network
from certlip.partition.plan import Plan
from certlip.partition.segment import make_segment
from certlip.solving.blocks import solve_blocks

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["n_workers", "n_programs", "order", "seconds", "speedup"]


def run(
    *,
    workers: list[int] = [1, 2],  # noqa: B006
    channels: int = 12,
    side: int = 33,
    max_seconds: float = 300.0,
    seed: int = 0,
) -> pd.DataFrame:
    """A row a number of workers: wall time of the plan, and how much faster than the first row it is.

    channels, side: of a padded block of two 3x3 convolutions in 3 x 3 patches, nine distinct programs of which the
    largest has this order.
    """
    import pandas as pd

    network = _block(channels, side, seed)
    plan = Plan(segments=(make_segment(network, 0, len(network.layers), (3, 3)),), fallback=False)
    limit = Limits(max_seconds=max_seconds)
    rows = []
    for n_workers in workers:
        begin = time.perf_counter()
        solved = solve_blocks(network, plan, limit=limit, n_jobs=n_workers)
        seconds = time.perf_counter() - begin
        largest = max(block.order for block in solved)
        rows.append({"n_workers": n_workers, "n_programs": len(solved), "order": largest, "seconds": seconds})
    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["speedup"] = frame["seconds"].iloc[0] / frame["seconds"]
    return frame


def _block(channels: int, side: int, seed: int) -> Network:
    rng = np.random.default_rng(seed)
    first = Conv("conv1", rng.standard_normal((channels, 1, 3, 3)), np.zeros(channels), padding=(1,) * 4)
    second = Conv("conv2", rng.standard_normal((channels, channels, 3, 3)), np.zeros(channels), padding=(1,) * 4)
    return Network((first, Activation("relu", "relu"), second), (1, side, side))
