"""The joint program of many small patches, of which the optimum needs few."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from certlip.jobs import problem_of
from certlip.methods import dcp
from certlip.network import Activation, Conv, Network
from certlip.sdp.folded import Stage, solve_folded
from certlip.sdp.folded.propose import Found, ascend

RTOL = 1e-4
SEEDS = range(4)


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


@cache
def found(seed: int) -> Found:
    return ascend(stages(seed), RTOL)


@pytest.mark.parametrize("seed", SEEDS)
def test_patches_that_play_no_part_in_the_optimum_leave_no_gap(seed: int) -> None:
    assert found(seed).gap <= RTOL
    assert found(seed).iterations <= 10


def test_a_bound_within_rtol_is_improved_while_a_round_halves_its_gap() -> None:
    assert found(3).gap <= RTOL / 4


def test_no_program_is_solved_again_with_fixed_metrics_where_the_ascent_closes_the_gap() -> None:
    solution = solve_folded(stages(0), rtol=RTOL)
    assert solution.solver == "folded"
    assert solution.lower <= solution.value <= solution.lower / (1 - RTOL)
