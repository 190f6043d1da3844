"""The joint program of a grid of patches."""

from __future__ import annotations

from functools import cache

import numpy as np

from certlip.methods import dcp
from certlip.network import Activation, Conv, Network
from certlip.sdp.folded import Stage
from certlip.solving.jobs import problem_of


@cache
def stages(seed: int) -> tuple[Stage, ...]:
    """Two 5x5 convolutions of one channel on 40x40, its output in a grid of 8x8, as in the partition trade-off."""
    rng = np.random.default_rng(seed)
    first, second = (Conv(name, rng.uniform(-0.2, 0.2, (1, 1, 5, 5)), np.zeros(1)) for name in ("first", "second"))
    network = Network((first, Activation("relu", "relu"), second), (1, 40, 40))
    plan = dcp.plan(network, grid=(8, 8), merge="folded")
    problem = problem_of(network, plan, plan.jobs[0])
    assert isinstance(problem, tuple)
    return tuple(patches.stage() for patches in problem)
